package worker

import (
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue"
)

// What has to hold between the constants, by the table in tuning.go.
func TestTuning(t *testing.T) {
	t.Parallel()
	const (
		hardLimit      = 300              // calls a second that Facebook allows (Messenger rate limits)
		shutdownBudget = 27 * time.Second // of a process: cmd/brazier
		leastPace      = 1e-3             // calls a second that queue.Pace takes
		rateSlack      = 1 - rateTarget
	)
	for what, holds := range map[string]bool{
		"stuckTimeout ≤ Lease/3":                  stuckTimeout <= queue.Lease/3,
		"probeLease > 2·lookEvery":                probeLease > 2*lookEvery,
		"probeLease > requeueDelay":               probeLease > requeueDelay,
		"statsEvery < Lease":                      statsEvery < queue.Lease,
		"laneIdle ≥ LaneSilence + 2·statsEvery":   laneIdle >= queue.LaneSilence+2*statsEvery,
		"stillEvery ≥ stillLooks·1 s":             stillEvery >= stillLooks*time.Second,
		"overdueEvery ≥ 1 s":                      overdueEvery >= time.Second,
		"maxCallDelay ≤ 1 s·(1 - rateTarget)":     maxCallDelay.Seconds() <= rateSlack+1e-9,
		"slotTolerance ≤ maxCallDelay":            slotTolerance <= maxCallDelay,
		"askAhead > slotTolerance":                askAhead > slotTolerance,
		"enoughSlots > askAhead · 300 a second":   enoughSlots > askAhead.Seconds()*hardLimit,
		"MinRate · minRateShare ≥ 0.001":          MinRate*minRateShare*rateTarget >= leastPace,
		"requeueDelay < behind":                   requeueDelay < behind,
		"roundIdle < behind":                      roundIdle < behind,
		"roundTries > fewProbes":                  roundTries > fewProbes,
		"DefaultDrain + settleGrace < 27 s":       DefaultDrain+settleGrace < shutdownBudget,
		"minInFlight ≥ DefaultRate · inFlightFor": minInFlight >= DefaultRate*inFlightFor,
	} {
		if !holds {
			t.Errorf("it does not hold that %s", what)
		}
	}
}
