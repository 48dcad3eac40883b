package worker

import "time"

func init() {
	behind = 50 * time.Millisecond
	asideDelays = Delays{First: 50 * time.Millisecond, Max: time.Second}
	circuitDelays = Delays{First: 50 * time.Millisecond, Max: 200 * time.Millisecond}
}
