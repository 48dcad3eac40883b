package worker

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"

	"github.com/brazier-relay/brazier/queue"
)

// shared is the state of a page or an app, which all workers share, as this process knows it.
type shared struct {
	w       *Worker
	key     string
	writing sync.Mutex // one change at a time

	mu     sync.Mutex
	state  queue.PageState
	trying *page // of this process
}

// reserve makes p the one page of this process that tries a message, if no other is.
func (h *shared) reserve(p *page) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.trying != nil && h.trying != p {
		return false
	}
	h.trying = p
	return true
}

func (h *shared) release(p *page) {
	h.mu.Lock()
	ours := h.trying == p
	if ours {
		h.trying = nil
	}
	h.mu.Unlock()
	if ours {
		h.w.lookAgain(h)
	}
}

// free reports whether no other page of this process tries a message.
func (h *shared) free(p *page) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.trying == nil || h.trying == p
}

func (h *shared) now() queue.PageState {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.state
}

// see takes in what is known by now.
func (h *shared) see(s queue.PageState) {
	h.mu.Lock()
	was, newer := h.state, s.After(h.state)
	if newer {
		h.state = s
	}
	h.mu.Unlock()
	if newer {
		h.w.lookAgain(h)
		if h.w.isKnown.Load() { // what was there before the start, held_still tells
			h.tellByHand(was, s)
		}
	}
}

// apply replaces the state by what next makes of it, and asks anew if another worker was faster.
func (h *shared) apply(ctx context.Context, e event) (queue.PageState, effect, error) {
	h.writing.Lock()
	defer h.writing.Unlock()
	e.worker, e.jitter = h.w.name, rand.Float64()
	for s := h.now(); ; {
		to, what := next(s, e, h.w.cfg.Queue.Now(), h.w.cfg.SlowStart)
		if what == effectNone {
			return s, effectNone, nil
		}
		stored, err := h.w.cfg.Queue.SetPageState(ctx, h.key, to)
		if errors.Is(err, queue.ErrChanged) {
			// One that cannot be read is replaced.
			if s, err = h.w.cfg.Queue.PageState(ctx, h.key); err == nil || s.Revision() != 0 {
				h.see(s)
				continue
			}
		}
		if err != nil {
			return s, effectNone, err
		}
		h.see(stored)
		return stored, what, nil
	}
}
