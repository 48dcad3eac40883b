package queue

import (
	"cmp"
	"testing"
	"time"
)

// What nats-server 2.15.2 and others take for their own work.
const (
	shortestElection = 4 * time.Second  // from the kill of a leader until another leads (measured)
	longestElection  = 9 * time.Second  // likewise
	lostLeaderLeads  = 20 * time.Second // for so long a leader without a quorum says that it leads (measured)
	replicaReports   = time.Second      // how often a leader hears of its replicas
	serverBatch      = 1000             // messages in one atomic batch (server/stream.go)
	brazeRetries     = 30 * time.Minute // Braze's last retry of a request
	drift            = 1e-4             // of a quartz clock, in seconds a second
)

// The inequalities of timing.go, each with what breaks without it.
func TestTiming(t *testing.T) {
	t.Parallel()
	const longestRetry = retryLongest * 3 / 2 // delays vary by half
	const renewed = Lease/renewAfter + Lease/renewEvery + writeTimeout
	for _, is := range []struct {
		lesser  time.Duration
		may     string // "<" or "<="
		greater time.Duration
		or      string // what happens otherwise
	}{
		{writeTimeout, "<", waitLogAfter, "a write is not repeated before the log tells that it is waited for"},
		{apiTimeout, "<=", waitLogAfter, "a request that is not answered is logged late, since its wait is counted after it"},
		{removeTimeout, "<=", writeTimeout, "the removal of a job takes longer than its record"},
		{reconnectWait + 2*reconnectJitter, "<", waitLogAfter, "each reconnect is logged as a wait"},

		{renewed, "<=", Lease / 2, "OwnsLease is false between two renewals"},
		{renewed + longestElection + longestRetry, "<", Lease, "an election puts jobs in doubt"},
		{(maxPings + 1) * pingInterval, "<=", Lease, "a worker that is cut off does not notice it before its leases end"},
		{2 * pullHeartbeat, "<", Lease, "a lost pull request is noticed after other workers have its jobs"},
		{Lease + longestElection, "<", minDoneAge, "a settled job that is delivered again finds no record, and is sent twice"},

		{2*repairPause + 2*apiTimeout, "<", waitKept, "what the repairer alone misses is logged as over between its looks"},
		{apiTimeout + longestRetry, "<", refusalCounts, "a permission violation is forgotten before the next attempt"},
		{refusalCounts, "<", refusalLogEvery, "a lasting violation is logged at each attempt"},
		{3 * replicaReports, "<", replicaSilence, "a replica that is late counts as gone"},
		{replicaSilence, "<", lostLeaderLeads, "a leader without a quorum is believed"},

		{lanesRetry, "<", lanesEvery, "WatchLanes asks more often while the stream answers"},
		{lanesEvery, "<", LaneSilence, "markers are left more often than they are asked for"},
		{publishRetryLongest, "<", retryLongest, "a caller of the ingress waits for longer than a worker does"},

		{2 * pullHeartbeat, "<=", pullExpiry, "nats.go refuses the request"},
		{pullExpiry, "<=", pullSpare * pullHeartbeat, "heartbeats displace jobs from the buffer"},

		{maxLate, "<=", contendedSpan, "a reservation may be late by more slots than it has"},
		{contendedSpan, "<", soloSpan, "workers that share a page take more at a time than one that has it alone"},
		{soloSpan, "<", horizon, "one reservation takes all slots that may be reserved"},
		{horizon + soloSpan, "<", contendedFor, "a worker that waits for a slot counts as absent"},
		{horizon + soloSpan + maxLate, "<", maxAhead, "slots in use are taken for those of a wrong clock"},
		{paceMemory, "<", shortestElection, "a remembered revision may be that of another bucket"},
		{time.Duration((1 + clockSpread) * drift * float64(clockEvery)), "<", maxLate / 10, "the drift of a clock moves slots"},
		{paceRetryLongest, "<=", horizon, "a worker that was overtaken comes after all slots in reach are gone"},

		{minBatch, "<=", maxAloneFlushed, "messages that wait make no batch"},
		{maxAloneFlushed, "<", manyWrites, "the ingress is never busy before it makes batches"},
		{manyWrites, "<", maxBatch, "one batch never makes the ingress busy"},
		{maxBatch, "<=", serverBatch, "the server refuses a batch"},
		{maxSharedBytes, "<", maxBatchBytes, "a batch is filled by one message"},
		{recordSpacing, "<", busyLasts, "the ingress counts as idle between two batches of records"},
		{recordSpacing, "<", writeTimeout / 10, "a record waits for a batch until it counts as lost"},

		{minDoneAge, "<", defaultWindow, "a key is forgotten with the record of its job"},
		{brazeRetries, "<", defaultWindow, "a retry of Braze is a new message"},
		{maxExpire, "<", recordAge, "a job outlives its record, and can be sent twice"},

		{3 * deadLetterHeartbeat, "<", deadLetterTimeout, "the reader abandons a server that has nothing"},
		{longestElection, "<", deadLetterTimeout, "the reader fails at each election"},
	} {
		c := cmp.Compare(is.lesser, is.greater)
		if !(c < 0 || c == 0 && is.may == "<=") {
			t.Errorf("%v must be %s %v: else %s", is.lesser, is.may, is.greater, is.or)
		}
	}
}
