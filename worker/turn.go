package worker

import "time"

// turn is how a job that has begun gets the slot for its call. It belongs to the job's goroutine.
type turn struct {
	d       *dispatcher
	lane    int       // of the dispatcher's
	started time.Time // when its begin was to be stored
	told    bool      // the dispatcher knows how that went

	granted chan time.Time // buffers one; closed when no more slots are granted
}

// arrival is what a job's goroutine tells the dispatcher.
type arrival struct {
	turn  *turn
	took  time.Duration // storing its begin
	left  bool          // it will not be sent
	again bool          // its slot came too late
}

// slot waits for a slot and reports whether the job may be sent now. It may not when the dispatcher has ended: the page is
// held, or the worker stops. The job has begun.
func (t *turn) slot() bool {
	for {
		if !t.tell(arrival{turn: t, took: time.Since(t.started), again: t.told}) {
			return false
		}
		at, ok := <-t.granted
		if !ok {
			return false
		}
		// On a machine that is overloaded, or was suspended, this goroutine may run long after the dispatcher's. The slot is
		// let go then.
		if time.Since(at) <= maxCallDelay {
			return true
		}
	}
}

// leave tells the dispatcher of a job that will not be sent, unless it knows.
func (t *turn) leave() {
	if !t.told {
		t.tell(arrival{turn: t, left: true})
	}
}

func (t *turn) tell(a arrival) bool {
	t.told = true
	select {
	case t.d.arrivals <- a:
		return true
	case <-t.d.over:
		return false
	}
}

// shares divides something among lanes: the first lane has it before the others, which get a tenth in any case. Without that
// a first lane that is never empty would starve them.
type shares struct {
	inRow int // that the first lane had while another had something
}

// choose returns whose turn it is among those of n lanes that have something, -1 if none has.
func (s *shares) choose(n int, has func(lane int) bool) int {
	first, other := -1, -1
	for lane := range n {
		switch {
		case !has(lane):
		case first < 0:
			first = lane
		case other < 0:
			other = lane
		}
	}
	switch {
	case other < 0:
		return first
	case s.inRow >= otherShare:
		s.inRow = 0
		return other
	}
	s.inRow++
	return first
}
