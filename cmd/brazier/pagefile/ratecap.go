package pagefile

import (
	"math"
	"time"

	"github.com/brazier-relay/brazier/worker"
)

// CallTime is what a call to the Send API with text takes, as people report: about 800 ms, with 0.5 to 1.25 s from one
// machine (rehabstudio/fbmessenger#40, botframework-sdk#3595).
const CallTime = 800 * time.Millisecond

// RateCap is a rate that a page cannot reach: its calls in flight come to an end too slowly.
type RateCap struct {
	Setting string  // the field of the page file
	Rate    float64 // calls a second
	At      float64 // calls a second
	Needed  int     // calls in flight
}

// Caps returns the rates that the page's own max_in_flight caps in one worker, with calls of CallTime.
func (p Page) Caps() (caps []RateCap) {
	for _, r := range []RateCap{{Setting: "rate", Rate: p.Rate}, {Setting: "media_rate", Rate: p.MediaRate}} {
		r.At = float64(p.MaxInFlight) / CallTime.Seconds()
		r.Needed = int(math.Ceil(r.Rate * CallTime.Seconds()))
		if p.MaxInFlight < worker.DefaultMaxInFlight(r.Rate) && r.At < r.Rate {
			caps = append(caps, r)
		}
	}
	return caps
}
