package sandbox

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Defaults of Config. The limits are Braze's own figures (API limits page) for customers that pay by data points.
const (
	DefaultMaxObjects  = 75
	DefaultMaxBytes    = 4_000_000
	DefaultHourly      = 250_000
	DefaultBurst       = 3000
	DefaultRecordLimit = 100_000
)

// burstWindow is what DefaultBurst counts in.
const burstWindow = 3 * time.Second

// Off switches a limit of Config off.
const Off = -1

// Config says how a sandbox behaves. The zero value works: every key is taken, and no profile exists.
type Config struct {
	// Keys are the API keys that are valid. None means every key.
	Keys []string
	// MaxObjects is how many objects a call may hold over all its arrays. Default DefaultMaxObjects; some contracts have 50.
	MaxObjects int
	// MaxBytes is how many bytes its body may have. Default DefaultMaxBytes.
	MaxBytes int
	// Hourly is how many calls a clock hour takes. Default DefaultHourly; Off.
	Hourly int
	// Burst is how many calls three seconds take. Default DefaultBurst; Off.
	Burst int
	// Types are those of custom attributes that exist beforehand. The first value of any other decides its type.
	Types map[string]Type
	// Blocked are external ids that no profile may have.
	Blocked []string
	// Latency passes between a call and its answer, give or take up to Jitter. The objects are written before it passes.
	Latency, Jitter time.Duration
	// Reorder writes what a call holds when it is answered, and what a call holds of a user who is in another call already at once:
	// two calls in flight with the same user are then written in the wrong order. One after the other they are not.
	Reorder bool
	// Seed makes the variations the same from run to run. Default: random.
	Seed uint64
	// Now tells the time that limits and events go by. Default: time.Now.
	Now func() time.Time
	// RecordLimit is how many calls the record keeps, the oldest dropped first; the summary goes on being exact. Default
	// DefaultRecordLimit. A call takes about 200 bytes.
	RecordLimit int
}

// Type is the type of a custom attribute.
type Type string

// The types that the sandbox knows.
const (
	String  Type = "string"
	Number  Type = "number"
	Boolean Type = "boolean"
	Time    Type = "time"
	Array   Type = "array"
	Nested  Type = "object"
)

var types = []Type{String, Number, Boolean, Time, Array, Nested}

// resolved returns the configuration with defaults filled in, or an error that names the field at fault.
func (c Config) resolved() (Config, error) {
	c.MaxObjects = cmp.Or(c.MaxObjects, DefaultMaxObjects)
	c.MaxBytes = cmp.Or(c.MaxBytes, DefaultMaxBytes)
	c.Hourly = cmp.Or(c.Hourly, DefaultHourly)
	c.Burst = cmp.Or(c.Burst, DefaultBurst)
	c.RecordLimit = cmp.Or(c.RecordLimit, DefaultRecordLimit)
	if c.Now == nil {
		c.Now = time.Now
	}
	for _, f := range []struct {
		field string
		n     int
		least int
	}{{"MaxObjects", c.MaxObjects, 1}, {"MaxBytes", c.MaxBytes, 1}, {"Hourly", c.Hourly, Off}, {"Burst", c.Burst, Off}, {"RecordLimit", c.RecordLimit, 1}} {
		if f.n < f.least {
			return c, fieldError{f.field, fmt.Sprintf("must be at least %d (got %d)", f.least, f.n)}
		}
	}
	for name, typ := range c.Types {
		if !slices.Contains(types, typ) {
			return c, fieldError{"Types", fmt.Sprintf("type of %q must be one of %v (got %q)", name, types, typ)}
		}
	}
	if slices.Contains(c.Keys, "") {
		return c, fieldError{"Keys", "must not hold an empty key"}
	}
	return c, checkLatency(c.Latency, c.Jitter)
}

// longestDelay bounds every pause that can be configured, so that sums of them cannot overflow.
const longestDelay = 24 * time.Hour

func checkLatency(latency, jitter time.Duration) error {
	switch {
	case latency < 0 || latency > longestDelay:
		return fieldError{"Latency", fmt.Sprintf("must be between 0 and %s (got %s)", longestDelay, latency)}
	case jitter < 0 || jitter > longestDelay:
		return fieldError{"Jitter", fmt.Sprintf("must be between 0 and %s (got %s)", longestDelay, jitter)}
	}
	return nil
}

// fieldError names the field of Config, Fault or Profile that is at fault.
type fieldError struct{ field, reason string }

func (e fieldError) Error() string { return e.field + ": " + e.reason }
