package braze

import "time"

// RenewEvery has claims renewed and asked for more often.
func (s *Sender) RenewEvery(d time.Duration) { s.claimEvery = d }
