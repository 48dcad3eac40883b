package process

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// diary is what the parts of a test did, in order.
type diary struct {
	mu   sync.Mutex
	done []string
}

func (d *diary) note(what string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.done = append(d.done, what)
}

func (d *diary) expect(t *testing.T, want ...string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if diff := cmp.Diff(want, d.done); diff != "" {
		t.Errorf("what was done (-want +got):\n%s", diff)
	}
}

// part notes its opening, its end and its closing. It ends when it is told to, with the given error.
func (d *diary) part(name string, end error) Part {
	return Part{
		Name: name,
		Open: func(context.Context) error { d.note("open " + name); return nil },
		Run: func(ctx context.Context) error {
			<-ctx.Done()
			d.note("end " + name)
			return end
		},
		Close: func() error { d.note("close " + name); return nil },
	}
}

var (
	errBroken = errors.New("broken")
	errOther  = errors.New("other")
)

// lastly is a part that calls f when it runs, after all others have opened, and ends with what f returns.
func lastly(f func() error) Part {
	return Part{Name: "last", Run: func(context.Context) error { return f() }}
}

func TestPartsStopInReverse(t *testing.T) {
	var d diary
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	resource := Part{Name: "resource",
		Open:  func(context.Context) error { d.note("open resource"); return nil },
		Close: func() error { d.note("close resource"); return nil }}
	trigger := Part{Name: "trigger", Run: func(ctx context.Context) error { stop(); <-ctx.Done(); return nil }}
	if err := RunParts(ctx, zap.NewNop(), []Part{{Name: "nothing"}, d.part("a", nil), resource, d.part("b", nil), trigger}); err != nil {
		t.Errorf("error: %v", err)
	}
	d.expect(t, "open a", "open resource", "open b", "end b", "close b", "close resource", "end a", "close a")
}

// The contexts of the parts end one by one, so that what stops last still has what it needs.
func TestPartsKeepTheirContext(t *testing.T) {
	type key struct{}
	ctx, stop := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
	defer stop()
	first := make(chan context.Context, 1)
	err := RunParts(ctx, zap.NewNop(), []Part{
		{Name: "first", Run: func(ctx context.Context) error { first <- ctx; <-ctx.Done(); return nil }},
		{Name: "second", Run: func(ctx context.Context) error {
			stop()
			<-ctx.Done()
			if ctx.Value(key{}) != "value" || (<-first).Err() != nil {
				return errBroken
			}
			return nil
		}},
	})
	if err != nil {
		t.Errorf("error: %v", err)
	}
}

func TestPartThatDoesNotOpen(t *testing.T) {
	var d diary
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	broken := Part{Name: "broken",
		Open:  func(context.Context) error { d.note("open broken"); return errBroken },
		Close: func() error { d.note("close broken"); return nil }}
	err := RunParts(ctx, zap.NewNop(), []Part{d.part("a", nil), d.part("b", nil), broken, d.part("c", nil)})
	if !errors.Is(err, errBroken) {
		t.Errorf("error: %v", err)
	}
	d.expect(t, "open a", "open b", "open broken", "close b", "close a") // none ran

	// Who is told to stop while it waits for something has not failed.
	d.done = nil
	waiting := Part{Name: "waiting", Open: func(ctx context.Context) error { stop(); <-ctx.Done(); return ctx.Err() }}
	if err := RunParts(ctx, zap.NewNop(), []Part{d.part("a", nil), waiting}); err != nil {
		t.Errorf("error: %v", err)
	}
	d.expect(t, "open a", "close a")
}

func TestPartThatEnds(t *testing.T) {
	for _, c := range []struct {
		name      string
		last      error // how the part ends that ends first
		a         error // how another ends when it is told to
		want      []error
		undrained bool
		logged    int
	}{
		{"with an error", errBroken, nil, []error{errBroken}, false, 0},
		{"with an error, before another's", errBroken, errOther, []error{errBroken}, false, 1},
		{"without an error", nil, nil, []error{nil}, false, 0},
		{"finished", ErrFinished, nil, nil, false, 0},
		{"finished, wrapped", fmt.Errorf("campaign: %w", ErrFinished), nil, nil, false, 0},
		{"finished, and another has left something", ErrFinished, errBroken, []error{errBroken}, true, 0},
		{"finished, and so has another", ErrFinished, ErrFinished, nil, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var d diary
			seen, lines := observer.New(zap.ErrorLevel)
			err := RunParts(t.Context(), zap.New(seen), []Part{d.part("a", c.a), lastly(func() error { return c.last })})
			if (err == nil) != (len(c.want) == 0) {
				t.Errorf("error: %v", err)
			}
			for _, want := range c.want {
				if want != nil && !errors.Is(err, want) {
					t.Errorf("error %v is not %v", err, want)
				}
			}
			if !c.undrained && err != nil && !strings.HasPrefix(err.Error(), "last ended: ") {
				t.Errorf("error %v does not name the part", err)
			}
			if errors.Is(err, cli.ErrUndrained) != c.undrained {
				t.Errorf("error %v: undrained is not %v", err, c.undrained)
			}
			// An error is returned or logged, never lost.
			if logged := lines.Len(); logged != c.logged {
				t.Errorf("%d errors are logged, want %d: %v", logged, c.logged, lines.All())
			}
			d.expect(t, "open a", "end a", "close a")
		})
	}
}

func TestPartsThatAreToldToStop(t *testing.T) {
	seen, lines := observer.New(zap.DebugLevel)
	for _, c := range []struct {
		name string
		end  error
		want error
	}{
		{"well", nil, nil},
		{"finished just now", ErrFinished, nil},
		{"with messages left", errBroken, cli.ErrUndrained},
	} {
		var d diary
		ctx, stop := context.WithCancel(t.Context())
		unclean := Part{Name: "unclean", Close: func() error { return errOther }}
		trigger := Part{Name: "trigger", Run: func(ctx context.Context) error { stop(); <-ctx.Done(); return nil }}
		err := RunParts(ctx, zap.New(seen), []Part{d.part("a", c.end), unclean, trigger})
		if !errors.Is(err, c.want) {
			t.Errorf("%s: error %v, want %v", c.name, err, c.want)
		}
		if c.want != nil && (!errors.Is(err, c.end) || !strings.Contains(err.Error(), "a: ")) {
			t.Errorf("%s: error %v does not name the part and its error", c.name, err)
		}
	}
	var events []string
	for _, line := range lines.All() {
		events = append(events, line.ContextMap()["event"].(string))
	}
	want := slices.Repeat([]string{"draining", "close_error"}, 3)
	if diff := cmp.Diff(want, events); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// A part that hangs does not keep the process past its budget.
func TestShutdownBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		defer close(hang)
		ctx, stop := context.WithCancel(t.Context())
		stop()
		began := time.Now()
		err := RunParts(ctx, zap.NewNop(), []Part{{Name: "hanging", Run: func(context.Context) error { <-hang; return nil }}})
		if !errors.Is(err, cli.ErrUndrained) {
			t.Errorf("error: %v", err)
		}
		if took := time.Since(began); took != ShutdownBudget {
			t.Errorf("ended after %v, want %v", took, ShutdownBudget)
		}
	})
}
