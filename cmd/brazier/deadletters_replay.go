package main

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

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi"
)

// pickFlags say which dead letters a change is about, and that it is meant.
type pickFlags struct {
	IDs []string `arg:"" optional:"" name:"id" help:"Ids of messages, as logs and the door's answer have them."`
	letterFlags
	All bool `name:"all" env:"-" group:"letters" help:"Every dead letter there is."`
	Yes bool `name:"yes" short:"y" env:"-" help:"Do it without asking."`
	accessFlags
}

func (f pickFlags) filter() (queue.LetterFilter, pageNames, error) {
	filter, names, err := f.letterFlags.filter(f.IDs)
	if err != nil {
		return filter, names, err
	}
	named := len(f.IDs) > 0 || f.Page != "" || f.Class != "" || f.Code != 0 || f.Campaign != "" || !f.Since.IsZero() || !f.Until.IsZero()
	switch {
	case f.All && named:
		return filter, names, usageError{errors.New("--all means every dead letter: leave it out, or leave out the ids and filters")}
	case !f.All && !named:
		return filter, names, usageError{errors.New("which dead letters? Name ids, filters, or --all")}
	}
	return filter, names, nil
}

type replayLetters struct {
	SinceHold bool `name:"since-hold" env:"-" group:"letters" help:"Of the refusals that led to the last hold of --page: with the same code and subcode, since the first of them in a row. Not with --code and --since."`
	pickFlags
}

func (replayLetters) Help() string {
	return "Shows how many dead letters are meant, by page and class, and replays them if that is confirmed on a terminal or by --yes. " +
		"Their messages go back into the queue of their page and lane, where the worker's pace applies to them, and have as long to be " +
		"delivered as they had at first. A message gets a new id, its first one and a number, so that logs show what became of it; the " +
		"attempts and the reason before are kept. Running it twice, or again after it was killed, replays nothing twice. " +
		"Letters of class in_doubt may have been delivered already."
}

func (c replayLetters) Run(ctx context.Context, std stdio) error {
	replay := change{verb: "Replay", done: "replayed", undone: "Nothing was replayed. Add --yes to do it.",
		each: func(ctx context.Context, q *queue.Queue, seq uint64) (before bool, err error) {
			got, err := q.Replay(ctx, seq)
			return got.Before, err
		}}
	switch {
	case c.SinceHold && c.Page == "":
		return usageError{errors.New("--since-hold: of which page? Name it with --page")}
	case c.SinceHold && (c.Code != 0 || !c.Since.IsZero()):
		return usageError{errors.New("--since-hold: the hold says which code and since when: leave out --code and --since")}
	case c.SinceHold:
		replay.narrow = sinceHold
	}
	return c.change(ctx, std, replay)
}

// sinceHold narrows a filter for a page to the letters that died of what led to the page's last hold, and says what that
// was.
func sinceHold(ctx context.Context, std stdio, q *queue.Queue, names pageNames, f *queue.LetterFilter) error {
	name := names.of(f.Page)
	s, err := q.PageState(ctx, f.Page)
	switch {
	case err != nil:
		return err
	case s.RefusedSince().IsZero():
		return fmt.Errorf("--since-hold: page %s was never held: name the letters by --code and --since", name)
	case s.Class == classManual:
		return fmt.Errorf("--since-hold: the last hold of page %s was made by hand, at %s, and not for a refusal: name the letters by --code and --since",
			name, seconds3339(s.Since))
	}
	f.Since = s.RefusedSince()
	f.Which = func(l *queue.Letter) bool {
		return l.Code == s.Code && l.Subcode == s.Subcode && l.Class != string(sendapi.ClassExpired)
	}
	held := "was held"
	if s.Held {
		held = "is held"
	}
	fmt.Fprintf(std.out, "Page %s %s at %s (class %s, code %s). Its letters of that code since %s:\n\n", printable(name), held, seconds3339(s.Since),
		printable(s.Class), codes(s.Code, s.Subcode), seconds3339(f.Since))
	return nil
}

type discardLetters struct{ pickFlags }

func (discardLetters) Help() string {
	return "Shows how many dead letters are meant, by page and class, and removes them if that is confirmed on a terminal or by --yes. " +
		"Their messages are then gone for good. Disk blocks that held them are freed as the stream is compacted."
}

func (c discardLetters) Run(ctx context.Context, std stdio) error {
	return c.change(ctx, std, change{verb: "Discard", done: "discarded",
		each: func(ctx context.Context, q *queue.Queue, seq uint64) (bool, error) { return false, q.Discard(ctx, seq) }})
}

// change is something done to each of many dead letters.
type change struct {
	verb, done string
	undone     string // what to say where nobody can confirm; "" makes that a wrong use
	// narrow completes the filter by what the queue knows. Nil: it is complete.
	narrow func(ctx context.Context, std stdio, q *queue.Queue, names pageNames, f *queue.LetterFilter) error
	each   func(ctx context.Context, q *queue.Queue, seq uint64) (before bool, err error)
}

// change shows what is meant, asks, and does it.
func (f pickFlags) change(ctx context.Context, std stdio, what change) error {
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
		fmt.Fprintln(std.out, "No dead letter fits.")
		return nil
	}
	meant.print(std.out, names)
	switch {
	case f.Yes:
	case std.in != nil:
		if !confirm(ctx, std, fmt.Sprintf("%s %d dead letters? [y/N] ", what.verb, meant.total)) {
			fmt.Fprintf(std.out, "Nothing was %s.\n", what.done)
			return nil
		}
	case what.undone == "":
		return usageError{fmt.Errorf("nothing was %s: add --yes, or run it on a terminal", what.done)}
	default:
		fmt.Fprintln(std.out, what.undone)
		return nil
	}
	filter.MaxSeq = meant.last // what was shown, and no letter that came since
	return newBatch(q, what, meant.total, std).run(ctx, filter)
}

// confirm asks a person. No answer is no.
func confirm(ctx context.Context, std stdio, question string) bool {
	fmt.Fprint(std.out, question)
	answer := make(chan string, 1)
	go func() { // ends with the line, or with the process
		line, _ := bufio.NewReader(std.in).ReadString('\n')
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case a := <-answer:
		return a == "y" || a == "yes"
	case <-ctx.Done():
		fmt.Fprintln(std.out)
		return false
	}
}

// surveyed is what a filter selects.
type surveyed struct {
	total  int
	last   uint64
	groups map[letterGroup]*span
}

type letterGroup struct{ page, class string }

type span struct {
	n              int
	oldest, newest time.Time
}

func survey(ctx context.Context, q *queue.Queue, filter queue.LetterFilter) (surveyed, error) {
	s := surveyed{groups: map[letterGroup]*span{}}
	for l, err := range q.Letters(ctx, filter, false) {
		if err != nil {
			return s, err
		}
		s.total++
		s.last = l.Seq
		g := s.groups[letterGroup{l.Page, l.Class}]
		if g == nil {
			g = &span{oldest: l.Died}
			s.groups[letterGroup{l.Page, l.Class}] = g
		}
		g.n++
		g.newest = l.Died
	}
	return s, nil
}

func (s surveyed) print(w io.Writer, names pageNames) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "PAGE\tCLASS\tLETTERS\tOLDEST\tNEWEST")
	doubtful := 0
	byName := func(a, b letterGroup) int {
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
	// changeTimeout is what one letter may take: more than the election of a leader.
	changeTimeout = 30 * time.Second
	// changers is how many letters are changed at one time: enough for the server's own work to be the limit.
	changers = 32
	// maxFailures is after how many letters that could not be changed the rest is left alone.
	maxFailures = 10
)

// batch is a change to many letters.
type batch struct {
	q       *queue.Queue
	what    change
	total   int
	std     stdio
	screen  *screen
	stop    context.CancelCauseFunc
	began   time.Time
	mu      sync.Mutex
	changed int
	before  int // replayed by an earlier run that was cut off
	gone    int // replayed, discarded or removed for its age since the survey
	failed  int
}

func newBatch(q *queue.Queue, what change, total int, std stdio) *batch {
	return &batch{q: q, what: what, total: total, std: std, screen: newScreen(std.err), began: time.Now()}
}

// run changes the letters that the filter selects. When ctx ends, those that are begun are finished first.
func (b *batch) run(ctx context.Context, filter queue.LetterFilter) error {
	reading, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	b.stop = stop
	letters := make(chan uint64)
	var working sync.WaitGroup
	for range changers {
		working.Go(func() {
			for seq := range letters {
				b.one(context.WithoutCancel(ctx), seq)
			}
		})
	}
	progress := b.follow()
	var broken error
	for l, err := range b.q.Letters(reading, filter, false) {
		if broken = err; err != nil {
			break
		}
		select {
		case letters <- l.Seq:
		case <-reading.Done():
		}
	}
	close(letters)
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
	case errors.Is(err, queue.ErrNoLetter):
		b.gone++
	case err != nil:
		b.failed++
		b.screen.say("%v", err)
		if errors.Is(err, queue.ErrFull) {
			b.stop(errors.New("the queue is full: run this again when it has drained"))
		} else if b.failed == maxFailures {
			b.stop(fmt.Errorf("%d letters failed", b.failed))
		}
	case before:
		b.before++
	default:
		b.changed++
	}
}

// follow shows progress until the function that it returns is called.
func (b *batch) follow() (end func()) {
	every := 10 * time.Second
	if b.screen.terminal {
		every = 200 * time.Millisecond
	}
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
				b.screen.live(fmt.Sprintf("%s %d of %d, %.0f/s", b.what.done, n, b.total, float64(n)/time.Since(b.began).Seconds()))
			case <-stop:
				b.screen.clear()
				return
			}
		}
	}()
	return func() { close(stop); <-stopped }
}

// result tells what became of the letters. stopped is why not all were reached, if so.
func (b *batch) result(stopped error) error {
	counts := fmt.Sprintf("%s %d", b.what.done, b.changed)
	if b.before > 0 {
		counts += fmt.Sprintf(", %d already before", b.before)
	}
	if b.gone > 0 {
		counts += fmt.Sprintf(", %d gone meanwhile", b.gone)
	}
	left := b.total - b.changed - b.before - b.gone - b.failed
	fmt.Fprintf(b.std.out, "%s, failed %d, in %v.\n", strings.ToUpper(counts[:1])+counts[1:], b.failed, time.Since(b.began).Round(time.Millisecond))
	switch {
	case stopped != nil && left > 0:
		return fmt.Errorf("stopped with %d letters to go, which are as they were: %w", left, stopped)
	case b.failed > 0:
		return fmt.Errorf("%d letters could not be %s, and are as they were", b.failed, b.what.done)
	}
	return nil
}
