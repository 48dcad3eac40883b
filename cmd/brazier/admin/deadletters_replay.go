package admin

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi"
)

// pickFlags say which dead letters a change is about, and that it is meant.
type pickFlags struct {
	IDs []string `arg:"" optional:"" name:"id" help:"Ids of messages, from the log or the ingress's answers."`
	deadLetterFlags
	All    bool `name:"all" env:"-" group:"deadletters" help:"All dead letters."`
	DryRun bool `name:"dry-run" env:"-" help:"Only show which dead letters are meant."`
	Yes    bool `name:"yes" short:"y" env:"-" help:"Do not ask. Required where no person is at a terminal."`
	accessFlags
}

func (f pickFlags) filter() (queue.DeadLetterFilter, pageNames, error) {
	filter, names, err := f.deadLetterFlags.filter(f.IDs)
	if err != nil {
		return filter, names, err
	}
	named := len(f.IDs) > 0 || f.Page != "" || f.Class != "" || f.Code != 0 || f.Campaign != "" || !f.Since.IsZero() || !f.Until.IsZero()
	switch {
	case f.All && named:
		return filter, names, cli.Usagef("--all: must not be combined with ids or filters")
	case !f.All && !named:
		return filter, names, cli.Usagef("name the dead letters by ids or filters, or give --all")
	}
	return filter, names, nil
}

type replayDeadLetters struct {
	SinceHold bool `name:"since-hold" env:"-" group:"deadletters" help:"Only those that led to the last hold of --page: with the same code and subcode, from the first refusal in that row on. Not with --code or --since."`
	pickFlags
}

func (replayDeadLetters) Help() string {
	return "Shows how many dead letters are meant, by page and class, asks, and requeues them at their page's usual rate. A message has as much time " +
		"to be delivered as it had at first, and a new id: its first one and a number. What happened before is kept. Repeating the command, " +
		"also after it was interrupted, requeues nothing twice. Messages of class in_doubt may already have been delivered."
}

func (c replayDeadLetters) Run(ctx context.Context, std cli.Stdio) error {
	replay := bulkChange{verb: "Replay", done: "replayed", each: func(ctx context.Context, q *queue.Queue, seq uint64) (before bool, err error) {
		got, err := q.Replay(ctx, seq)
		return got.AlreadyQueued, err
	}}
	switch {
	case c.SinceHold && c.Page == "":
		return cli.Usagef("--since-hold: requires --page")
	case c.SinceHold && (c.Code != 0 || !c.Since.IsZero()):
		return cli.Usagef("--since-hold: must not be combined with --code or --since, which the hold decides")
	case c.SinceHold:
		replay.narrow = sinceHold
	}
	return c.apply(ctx, std, replay)
}

// sinceHold narrows a filter for a page to the dead letters of what led to the page's last hold, and says what that
// was.
func sinceHold(ctx context.Context, std cli.Stdio, q *queue.Queue, names pageNames, f *queue.DeadLetterFilter) error {
	name := names.of(f.Page)
	s, err := q.PageState(ctx, f.Page)
	switch {
	case err != nil:
		return err
	case s.RefusedSince().IsZero():
		return fmt.Errorf("--since-hold: page %s was never held: select dead letters with --code and --since", name)
	case s.Class == classManual:
		return fmt.Errorf("--since-hold: a person held page %s last, at %s, so that no refusal led to it: select dead letters with --code and --since",
			name, seconds3339(s.Since))
	}
	f.Since = s.RefusedSince()
	f.Which = func(l *queue.DeadLetter) bool {
		return l.Code == s.Code && l.Subcode == s.Subcode && l.Class != string(sendapi.ClassExpired)
	}
	held := "was held"
	if s.Held {
		held = "is held"
	}
	fmt.Fprintf(std.Out, "Page %s %s at %s (class %s, code %s). Its dead letters with that code since %s:\n\n", printable(name), held, seconds3339(s.Since),
		printable(s.Class), codes(s.Code, s.Subcode), seconds3339(f.Since))
	return nil
}

type discardDeadLetters struct{ pickFlags }

func (discardDeadLetters) Help() string {
	return "Shows how many dead letters are meant, by page and class, asks, and deletes them for good. Disk space is freed as the stream is compacted."
}

func (c discardDeadLetters) Run(ctx context.Context, std cli.Stdio) error {
	return c.apply(ctx, std, bulkChange{verb: "Discard", done: "discarded",
		each: func(ctx context.Context, q *queue.Queue, seq uint64) (bool, error) { return false, q.Discard(ctx, seq) }})
}

// bulkChange is something done to each of many dead letters.
type bulkChange struct {
	verb, done string
	// narrow completes the filter by what the queue knows. Nil: it is complete.
	narrow func(ctx context.Context, std cli.Stdio, q *queue.Queue, names pageNames, f *queue.DeadLetterFilter) error
	each   func(ctx context.Context, q *queue.Queue, seq uint64) (before bool, err error)
}

// apply shows what is meant, asks, and does it.
func (f pickFlags) apply(ctx context.Context, std cli.Stdio, what bulkChange) error {
	filter, names, err := f.filter()
	if err != nil {
		return err
	}
	q, done, err := f.open(ctx, std)
	if err != nil {
		return err
	}
	defer done()
	if err := f.byServer(ctx, q, &filter); err != nil {
		return err
	}
	if what.narrow != nil {
		if err := what.narrow(ctx, std, q, names, &filter); err != nil {
			return err
		}
	}
	meant, err := survey(ctx, q, filter)
	if err != nil {
		return err
	}
	if meant.total == 0 {
		fmt.Fprintln(std.Out, "No dead letter matches.")
		return nil
	}
	meant.print(std.Out, names)
	switch {
	case f.DryRun:
		fmt.Fprintf(std.Out, "Nothing was %s.\n", what.done)
		return nil
	case f.Yes:
	case std.In != nil:
		if !confirm(ctx, std, fmt.Sprintf("%s %d dead letters? [y/N] ", what.verb, meant.total)) {
			fmt.Fprintf(std.Out, "Nothing was %s.\n", what.done)
			return nil
		}
	default:
		return cli.Usagef("nothing was %s, since no person is at a terminal to confirm it: add --yes, or --dry-run to look only", what.done)
	}
	filter.MaxSeq = meant.last // what was shown, and no dead letter that came since
	return newBatch(q, what, meant.total, std).run(ctx, filter)
}

// confirm asks a person. No answer is no.
func confirm(ctx context.Context, std cli.Stdio, question string) bool {
	fmt.Fprint(std.Out, question)
	answer := make(chan string, 1)
	go func() { // ends with the line, or with the process
		line, _ := bufio.NewReader(std.In).ReadString('\n')
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case a := <-answer:
		return a == "y" || a == "yes"
	case <-ctx.Done():
		fmt.Fprintln(std.Out)
		return false
	}
}

// surveyed is what a filter selects.
type surveyed struct {
	total  int
	last   uint64
	groups map[group]*span
}

type group struct{ page, class string }

type span struct {
	n              int
	oldest, newest time.Time
}

func survey(ctx context.Context, q *queue.Queue, filter queue.DeadLetterFilter) (surveyed, error) {
	s := surveyed{groups: map[group]*span{}}
	for l, err := range q.DeadLetters(ctx, filter, false) {
		if err != nil {
			return s, err
		}
		s.total++
		s.last = l.Seq
		g := s.groups[group{l.Page, l.Class}]
		if g == nil {
			g = &span{oldest: l.Died}
			s.groups[group{l.Page, l.Class}] = g
		}
		g.n++
		g.newest = l.Died
	}
	return s, nil
}

func (s surveyed) print(w io.Writer, names pageNames) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "PAGE\tCLASS\tCOUNT\tOLDEST\tNEWEST")
	doubtful := 0
	byName := func(a, b group) int {
		return cmp.Or(strings.Compare(names.of(a.page), names.of(b.page)), strings.Compare(a.class, b.class))
	}
	for _, k := range slices.SortedFunc(maps.Keys(s.groups), byName) {
		g := s.groups[k]
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\n", printable(names.of(k.page)), printable(k.class), g.n, seconds3339(g.oldest), seconds3339(g.newest))
		if k.class == string(sendapi.ClassInDoubt) {
			doubtful += g.n
		}
	}
	fmt.Fprintf(t, "total\t\t%d\t\t\n", s.total)
	_ = t.Flush() // the line after it fails too
	if doubtful > 0 {
		fmt.Fprintf(w, "%d of them are in doubt: they may have been delivered already.\n", doubtful)
	}
	fmt.Fprintln(w)
}

const (
	// changeTimeout is what one dead letter may take: more than the election of a leader.
	changeTimeout = 30 * time.Second
	// concurrentChanges is how many dead letters are changed at one time: enough for the server's own work to be the limit.
	concurrentChanges = 32
	// maxFailures is after how many dead letters that could not be changed the rest is left alone.
	maxFailures = 10
)

// batch is a change to many dead letters.
type batch struct {
	q       *queue.Queue
	what    bulkChange
	total   int
	std     cli.Stdio
	screen  *cli.Screen
	stop    context.CancelCauseFunc
	began   time.Time
	mu      sync.Mutex
	changed int
	before  int // replayed by an earlier run that was cut off
	gone    int // replayed, discarded or removed for its age since the survey
	failed  int
}

func newBatch(q *queue.Queue, what bulkChange, total int, std cli.Stdio) *batch {
	return &batch{q: q, what: what, total: total, std: std, screen: cli.NewScreen(std.Err), began: time.Now()}
}

// run changes the dead letters that the filter selects. When ctx ends, those that are begun are finished first.
func (b *batch) run(ctx context.Context, filter queue.DeadLetterFilter) error {
	reading, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	b.stop = stop
	seqs := make(chan uint64)
	var working sync.WaitGroup
	for range concurrentChanges {
		working.Go(func() {
			for seq := range seqs {
				b.one(context.WithoutCancel(ctx), seq)
			}
		})
	}
	progress := b.follow()
	var broken error
	for l, err := range b.q.DeadLetters(reading, filter, false) {
		if broken = err; err != nil {
			break
		}
		select {
		case seqs <- l.Seq:
		case <-reading.Done():
		}
	}
	close(seqs)
	working.Wait()
	progress()
	return b.result(cmp.Or(context.Cause(reading), broken))
}

func (b *batch) one(ctx context.Context, seq uint64) {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	before, err := b.what.each(ctx, b.q, seq)
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case errors.Is(err, queue.ErrNoDeadLetter):
		b.gone++
	case err != nil:
		b.failed++
		b.screen.Say("%v", err)
		if errors.Is(err, queue.ErrFull) {
			b.stop(errors.New("the queue is full: run this again when its backlog is smaller"))
		} else if b.failed == maxFailures {
			b.stop(fmt.Errorf("%d dead letters failed", b.failed))
		}
	case before:
		b.before++
	default:
		b.changed++
	}
}

// follow shows progress until the function that it returns is called.
func (b *batch) follow() (end func()) {
	every := b.screen.Every(200*time.Millisecond, 10*time.Second)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				b.mu.Lock()
				n := b.changed + b.before + b.gone + b.failed
				b.mu.Unlock()
				b.screen.Live(fmt.Sprintf("%s %d of %d, %.0f/s", b.what.done, n, b.total, float64(n)/time.Since(b.began).Seconds()))
			case <-stop:
				b.screen.Clear()
				return
			}
		}
	}()
	return func() { close(stop); <-stopped }
}

// result tells what became of the dead letters. stopped is why not all were reached, if so.
func (b *batch) result(stopped error) error {
	counts := fmt.Sprintf("%s %d", b.what.done, b.changed)
	if b.before > 0 {
		counts += fmt.Sprintf(", %d already before", b.before)
	}
	if b.gone > 0 {
		counts += fmt.Sprintf(", %d gone meanwhile", b.gone)
	}
	left := b.total - b.changed - b.before - b.gone - b.failed
	fmt.Fprintf(b.std.Out, "%s, failed %d, in %v.\n", strings.ToUpper(counts[:1])+counts[1:], b.failed, time.Since(b.began).Round(time.Millisecond))
	switch {
	case stopped != nil && left > 0:
		return fmt.Errorf("stopped with %d dead letters to go, which are unchanged: %w", left, stopped)
	case b.failed > 0:
		return fmt.Errorf("%d dead letters could not be %s, and are unchanged", b.failed, b.what.done)
	}
	return nil
}
