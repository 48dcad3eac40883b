package queue

import (
	"testing"
	"time"
)

// WithLease is for tests that would wait long for the real one.
func (c Config) WithLease(d time.Duration) Config {
	c.lease = d
	return c
}

// AsAnotherProcess is for tests in which a process stands for its successor too.
func (c Config) AsAnotherProcess() Config {
	c.worker = NewID()
	if c.Embedded {
		c.worker = embeddedPrefix + c.worker
	}
	return c
}

// State returns what the record of a job says, empty where there is none.
func (q *Queue) State(t testing.TB, page string, lane Lane, id string) string {
	t.Helper()
	r, err := q.findRecord(t.Context(), recordSubject(page, lane, id))
	if err != nil {
		t.Fatal(err)
	}
	if r == nil {
		return ""
	}
	return string(r.State)
}
