package queue

import (
	"time"

	"github.com/cenkalti/backoff/v4"
)

// Backoff returns delays between attempts that never end: they grow from first to longest, each half as long again as the one
// before and up to half longer or shorter by chance. What ends the attempts is their context.
func Backoff(first, longest time.Duration) *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(backoff.WithInitialInterval(first), backoff.WithMaxInterval(longest), backoff.WithMaxElapsedTime(0))
}
