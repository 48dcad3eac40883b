package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/worker/subscription"
)

// StatusCommand shows everything at a glance, and judges it.
type StatusCommand struct {
	JSON     bool          `name:"json" env:"-" help:"Print one JSON object; with --watch one per line."`
	Watch    bool          `name:"watch" env:"-" help:"Show it again every 2 s, until interrupted. The exit code is then 0."`
	Oldest   time.Duration `name:"oldest" env:"-" default:"1h" placeholder:"AGE" help:"A person is needed when a message has waited for longer. 0s: never."`
	MaxQueue cli.Size      `name:"max-queue" placeholder:"SIZE" group:"queue" help:"As given to the roles, to report where NATS differs. Default: not compared."`
	DeadAge  time.Duration `name:"dead-age" placeholder:"DURATION" group:"queue" help:"As given to the roles, to report where NATS differs. Default: not compared."`
	Replicas int           `name:"replicas" placeholder:"N" group:"queue" help:"As given to the roles, to report where NATS differs. Default: the streams are only compared with each other."`
	pageAccess
}

func (StatusCommand) Help() string {
	return "Works whether or not Brazier runs. After the tables comes one sentence for each thing that a person has to do, with the remedy.\n\n" +
		"Exit codes: 0 nothing needs a person, 1 something does or could not be read."
}

// statusTimeout is how long one look may take. Where a stream has no leader some requests are not answered.
const statusTimeout = 10 * time.Second

// errNeeds ends the command where a person is needed, which it has printed.
var errNeeds = errors.New("a person is needed")

func (c StatusCommand) Run(ctx context.Context, std cli.Stdio) error {
	if c.Oldest < 0 {
		return cli.Usagef("--oldest: must not be negative (got %v)", c.Oldest)
	}
	names, _ := readNames(c.Pages)
	q, done, err := c.openFor(ctx, std, queue.Config{MaxBytes: int64(c.MaxQueue), DeadMaxAge: c.DeadAge, Replicas: c.Replicas})
	if err != nil {
		return err
	}
	defer done()
	if c.Watch {
		return watch(ctx, std, c.JSON, func(ctx context.Context, out io.Writer) error {
			v := c.look(ctx, q, names)
			return c.print(out, &v)
		})
	}
	v := c.look(ctx, q, names)
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := c.print(std.Out, &v); err != nil {
		return err
	}
	if !v.OK {
		return cli.Silent(errNeeds)
	}
	return nil
}

func (c StatusCommand) print(out io.Writer, v *Status) error {
	if c.JSON {
		return json.NewEncoder(out).Encode(v)
	}
	return v.print(out)
}

// look reads everything, and judges it.
func (c StatusCommand) look(ctx context.Context, q *queue.Queue, names pageNames) Status {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	s := sight{names: names, embedded: c.NatsURL == "", file: c.Pages, oldest: c.Oldest}
	s.read(ctx, q)
	return s.status()
}

// sight is what is to be judged. Each part may be missing, with its error in unread.
type sight struct {
	names    pageNames
	file     string // the page file
	embedded bool   // the queue is that of brazier serve
	oldest   time.Duration

	now       time.Time // the server's
	pages     []StatusPage
	alive     []queue.AliveProcess
	aliveRead bool // alive is known
	fetched   bool // a worker fetches messages of a page for which some wait
	streams   []queue.StreamState
	drift     []queue.Difference
	lost      []LostWebhook
	unread    []unread
}

// unread is a part that could not be read.
type unread struct {
	what string
	err  error
}

// read reads all parts at once: a stream that does not answer is to keep nothing but its own part.
func (s *sight) read(ctx context.Context, q *queue.Queue) {
	var reading sync.WaitGroup
	var mu sync.Mutex
	part := func(what string, read func() error) {
		reading.Go(func() {
			if err := read(); err != nil {
				mu.Lock()
				defer mu.Unlock()
				s.unread = append(s.unread, unread{what, err})
			}
		})
	}
	part("the streams", func() error { s.streams = q.Streams(ctx); return nil })
	part("the pages", func() error { return s.readPages(ctx, q) })
	part("the processes that are alive", func() error { return s.readAlive(ctx, q) })
	part("the settings of the streams", func() (err error) { s.drift, err = q.Differences(ctx); return err })
	part("the subscriptions to webhooks", func() (err error) { s.lost, err = lostWebhooks(ctx, q, s.names); return err })
	reading.Wait()
	slices.SortFunc(s.unread, func(a, b unread) int { return cmp.Compare(a.what, b.what) })
	s.inForce()
}

func (s *sight) readPages(ctx context.Context, q *queue.Queue) error {
	states, err := q.PageStates(ctx)
	if err != nil {
		return err
	}
	backlogs, err := q.Backlogs(ctx)
	if err != nil {
		return err
	}
	if s.now, err = q.ServerTime(ctx); err != nil {
		return err
	}
	waiting := map[string]queue.PageBacklog{}
	for id, b := range backlogs {
		if b.Pending > 0 {
			waiting[id], s.fetched = b, s.fetched || b.Fetched
		}
	}
	for _, page := range viewPages(s.names, states, waiting, s.now) {
		b := backlogs[page.ID]
		page.Pending, page.Dead = b.Pending, b.Dead
		v := StatusPage{Page: page, InFlight: b.InFlight, Retrying: b.Retrying}
		if !b.Oldest.IsZero() {
			age := max(int64(s.now.Sub(b.Oldest).Seconds()), 0)
			v.OldestAge = &age
		}
		s.pages = append(s.pages, v)
	}
	return nil
}

// readAlive reads which processes are alive. Where none of this version ever ran, that is not known.
func (s *sight) readAlive(ctx context.Context, q *queue.Queue) (err error) {
	s.alive, err = q.Alive(ctx)
	s.aliveRead = err == nil
	if errors.Is(err, queue.ErrNoAlive) {
		return nil
	}
	slices.SortFunc(s.alive, func(a, b queue.AliveProcess) int {
		return cmp.Or(cmp.Compare(a.Role, b.Role), cmp.Compare(a.Name, b.Name), a.Started.Compare(b.Started))
	})
	return err
}

// inForce fills in the rates of the pages, which are known of those in the page file. Of several workers that say what a page may
// send now the lowest counts: each knows what Facebook answered to itself.
func (s *sight) inForce() {
	for i := range s.pages {
		p := &s.pages[i]
		if !p.InFile {
			continue
		}
		rate := s.names[p.ID].rate
		for _, process := range s.alive {
			if slowed, ok := process.Slowed[p.ID]; ok && !process.Stopped && slowed.Rate < rate {
				rate, p.RateWhy = slowed.Rate, slowed.Why
			}
		}
		if p.isHeld() {
			rate, p.RateWhy = 0, "held"
		}
		p.Rate = &rate
	}
}

// lostWebhooks is as a worker saw it in the last minutes.
func lostWebhooks(ctx context.Context, q *queue.Queue, names pageNames) ([]LostWebhook, error) {
	lost := []LostWebhook{}
	for id, page := range names {
		if !page.webhooks {
			continue
		}
		missing, err := subscription.Missing(ctx, q, id)
		if err != nil {
			return nil, err
		}
		if len(missing) > 0 {
			lost = append(lost, LostWebhook{page.name, missing})
		}
	}
	slices.SortFunc(lost, func(a, b LostWebhook) int { return cmp.Compare(a.Page, b.Page) })
	return lost, nil
}
