package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/brazier-relay/brazier/queue"
)

type statusCommand struct {
	JSON     bool          `name:"json" env:"-" help:"One JSON object."`
	MaxQueue int64         `name:"max-queue" placeholder:"BYTES" group:"queue" help:"As for the roles: said where it is not what NATS has. Default: not compared."`
	DeadAge  time.Duration `name:"dead-age" placeholder:"DURATION" group:"queue" help:"As for the roles: said where it is not what NATS has. Default: not compared."`
	Replicas int           `name:"replicas" placeholder:"N" group:"queue" help:"As for the roles: said where it is not what NATS has. Default: the streams are compared with each other."`
	pageAccess
}

func (statusCommand) Help() string {
	return "Works while everything runs, and while nothing does. \"pages list\" has a line for each page."
}

// statusView is the queue at a glance.
type statusView struct {
	Pending  uint64     `json:"pending"`
	Dead     uint64     `json:"dead"`
	Bytes    uint64     `json:"bytes"`
	MaxBytes int64      `json:"max_bytes"`
	Replicas int        `json:"replicas"`
	Leader   string     `json:"leader,omitempty"`
	Pages    int        `json:"pages"`
	Trouble  []pageView `json:"trouble"` // pages that are held, or not in the page file although messages wait
	// Drift is where NATS is not as the flags say, and where streams differ in their replicas.
	Drift []queue.Difference `json:"drift"`
}

func (c statusCommand) Run(ctx context.Context, std stdio) error {
	names, _ := readNames(c.Pages)
	q, done, err := c.openFor(ctx, std, queue.Config{MaxBytes: c.MaxQueue, DeadMaxAge: c.DeadAge, Replicas: c.Replicas})
	if err != nil {
		return err
	}
	defer done()
	v, err := status(ctx, q, names)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(std.out)
	if c.JSON {
		_ = json.NewEncoder(out).Encode(v) // its error is out's, which Flush returns
		return out.Flush()
	}
	fmt.Fprintf(out, "%d messages wait, %d dead letters are kept.\n", v.Pending, v.Dead)
	fmt.Fprintf(out, "The queue takes %s of %s, in %d replica(s)", mebibytes(int64(v.Bytes)), mebibytes(v.MaxBytes), v.Replicas)
	if v.Leader != "" {
		fmt.Fprintf(out, ", led by %s", printable(v.Leader))
	}
	fmt.Fprintln(out, ".")
	for _, d := range v.Drift {
		fmt.Fprintf(out, "%s has %s %s, not %s: \"brazier setup\" changes that.\n", d.Stream, d.Setting, d.Have, d.Want)
	}
	if len(v.Trouble) == 0 {
		fmt.Fprintln(out, "No page is held.")
		return out.Flush()
	}
	fmt.Fprintf(out, "%d page(s) are not sent for:\n\n", len(v.Trouble))
	printPages(out, v.Trouble)
	return out.Flush()
}

func status(ctx context.Context, q *queue.Queue, names pageNames) (statusView, error) {
	pages, err := pageViews(ctx, q, names)
	if err != nil {
		return statusView{}, err
	}
	totals, err := q.Totals(ctx)
	if err != nil {
		return statusView{}, err
	}
	v := statusView{Bytes: totals.Jobs.Bytes, MaxBytes: totals.Jobs.MaxBytes, Replicas: totals.Jobs.Replicas, Leader: totals.Jobs.Leader,
		Pages: len(pages), Trouble: []pageView{}}
	for _, p := range pages {
		v.Pending += p.Pending
		if p.State != "open" {
			v.Trouble = append(v.Trouble, p)
		}
	}
	for _, n := range totals.Dead.ByPage {
		v.Dead += n
	}
	drift, err := q.Differences(ctx)
	if err != nil {
		return statusView{}, err
	}
	v.Drift = append([]queue.Difference{}, drift...)
	return v, nil
}

func mebibytes(n int64) string {
	if n < 0 {
		return "no limit"
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}
