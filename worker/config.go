package worker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/queue"
)

// Page is a Facebook page to deliver for.
type Page struct {
	ID   string // Facebook page id
	Name string // how logs name it; default ID
	// App names the Facebook app whose tokens the page uses: pages of one app are throttled together. Pages that name none
	// count as of one app.
	App string
	// Rate and MediaRate are calls a second, all workers together, at least [MinRate]. Default [DefaultRate] and
	// [DefaultMediaRate].
	Rate, MediaRate float64
	// MaxInFlight bounds the calls under way at one time, in this process: those with text, and as many with media. Default
	// [DefaultMaxInFlight] of Rate.
	MaxInFlight int
	// Handler does the page's jobs. Another one takes over for the jobs that begin after [Worker.SetPages]. Required.
	Handler Handler
	// Credentials names the credentials that the handler would use now, without giving them away. By that it is known when
	// those that Facebook refused have been replaced. After an error nothing is sent for the page. It must be quick and safe
	// for concurrent use. Default: they never change.
	Credentials func() (string, error)
}

const (
	// DefaultRate stays at the mark from which Facebook calls a page's volume high and may block it: more than 40
	// messages a second (Messenger rate limits). The hard limit is 300 calls a second.
	DefaultRate = 40
	// DefaultMediaRate is Facebook's limit for audio and video, calls a second and page (Messenger rate limits).
	DefaultMediaRate = 10
	// MinRate is one call in 10 seconds. At a tenth of it, where a page goes after a hold and when Facebook's limits are near,
	// slots are still to be had (see [queue.Pace.Reserve]), a new worker's first after 100 s. A page that is to send less is
	// to be held.
	MinRate = 0.1
)

// DefaultMaxInFlight allows a rate with calls of 1.6 s.
func DefaultMaxInFlight(rate float64) int {
	return int(min(max(math.Ceil(inFlightFor*rate), minInFlight), maxInFlight))
}

func (p *Page) setDefaults() error {
	if p.Name == "" {
		p.Name = p.ID
	}
	if p.Rate == 0 {
		p.Rate = DefaultRate
	}
	if p.MediaRate == 0 {
		p.MediaRate = DefaultMediaRate
	}
	if p.MaxInFlight == 0 {
		p.MaxInFlight = DefaultMaxInFlight(p.Rate)
	}
	if p.Credentials == nil {
		p.Credentials = func() (string, error) { return "", nil }
	}
	switch {
	case p.ID == "":
		return errors.New("worker: a page has no id")
	case p.Handler == nil:
		return fmt.Errorf("worker: page %s: Handler is missing", p.Name)
	case p.Rate < MinRate, p.MediaRate < MinRate:
		return fmt.Errorf("worker: page %s: Rate and MediaRate must be at least %v", p.Name, MinRate)
	case p.MaxInFlight < 0:
		return fmt.Errorf("worker: page %s: MaxInFlight must be above 0", p.Name)
	}
	return nil
}

// Config is what a worker needs. Queue is required.
type Config struct {
	Queue *queue.Queue
	Pages []Page
	// Host names where the Send API is, for the log.
	Host string
	// Ended, if set, is called before a job is settled as delivered or as a dead letter, so that what it stores is stored
	// whatever becomes of the settlement. It is called again when that is lost. It must return soon, and be safe for
	// concurrent use.
	Ended func(context.Context, *queue.Delivery, End)
	// SlowStart is how long a page that comes out of a hold takes to reach its full rate. Default [DefaultSlowStart].
	SlowStart time.Duration
	// GraphSlow is the time that 95 of 100 calls to Facebook may take, over a minute, without a line in the log. Calls with media are
	// not counted. Default [DefaultGraphSlow].
	GraphSlow time.Duration
	// Drain is how long jobs in flight may go on after the context of Run has ended. Default [DefaultDrain].
	Drain time.Duration
	// StatsEvery is the time between stats lines, and between looks at what is in the queue: jobs that were published and not
	// heard of lie so long at most. Default 10s.
	StatsEvery time.Duration
	Log        *zap.Logger // default: nothing is logged
}

// ConfigError is a setting of Config that cannot be used.
type ConfigError struct {
	Field string // of Config, such as "SlowStart"
	Fault string // what is allowed and what was given, such as "must not be negative (got -1s)"
}

func (e *ConfigError) Error() string { return "worker: " + e.Field + ": " + e.Fault }

// Validate returns all faults of the settings, joined, each of them a *[ConfigError], or nil. It needs neither Queue nor
// Pages, so settings can be judged before there is a queue.
func (c Config) Validate() error {
	var faults []error
	for _, f := range []struct {
		field string
		value time.Duration
	}{{"SlowStart", c.SlowStart}, {"GraphSlow", c.GraphSlow}, {"Drain", c.Drain}, {"StatsEvery", c.StatsEvery}} {
		if f.value < 0 {
			faults = append(faults, &ConfigError{f.field, fmt.Sprintf("must not be negative (got %v)", f.value)})
		}
	}
	return errors.Join(faults...)
}

const (
	// DefaultDrain leaves the ingress and the server their share of a process's shutdown budget.
	DefaultDrain = 15 * time.Second
	// DefaultGraphSlow is our choice: six times what a call usually takes (0.8 s), three times what [DefaultMaxInFlight] allows for.
	DefaultGraphSlow = 5 * time.Second
	// DefaultSlowStart is our choice; Facebook documents none.
	DefaultSlowStart = time.Minute
)
