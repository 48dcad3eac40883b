package queue

import "time"

// AnnounceEvery has a lane announced again after d, which is half a minute without it.
func (q *Queue) AnnounceEvery(d time.Duration) { q.first.lanes.every = d }
