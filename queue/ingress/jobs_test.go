package ingress_test

import (
	"time"

	"github.com/brazier-relay/brazier/queue"
)

// take removes all jobs of a page from the queue and returns them, lane by lane, oldest first. It publishes a last job to
// each lane to know when it has seen all of them.
func (h *harness) take(page string) []queue.Job {
	h.t.Helper()
	var jobs []queue.Job
	for _, lane := range queue.Lanes() {
		end := queue.Job{ID: queue.NewID(), Page: page, Lane: lane, Accepted: time.Now(), Expire: time.Now().Add(time.Hour)}
		if _, err := h.q.Publish(h.t.Context(), &end); err != nil {
			h.t.Fatalf("publish the end of lane %s: %v", lane, err)
		}
		for {
			job := h.next(page, lane)
			if job.ID == end.ID {
				break
			}
			jobs = append(jobs, job)
		}
	}
	return jobs
}

func (h *harness) next(page string, lane queue.Lane) queue.Job {
	h.t.Helper()
	source, ok := h.sources[page+string(lane)]
	if !ok {
		source = h.q.Source(page, lane, 64)
		h.sources[page+string(lane)] = source
	}
	defer time.AfterFunc(time.Minute, source.Stop).Stop()
	d, err := source.Next(h.t.Context())
	if err != nil {
		h.t.Fatalf("next job of %s/%s: %v", page, lane, err)
	}
	if err := d.Done(h.t.Context()); err != nil {
		h.t.Fatalf("settle: %v", err)
	}
	return d.Job
}

// only takes the one job that a page is expected to have in the queue.
func (h *harness) only(page string) queue.Job {
	h.t.Helper()
	jobs := h.take(page)
	if len(jobs) != 1 {
		h.t.Fatalf("%d jobs are stored for page %s, want 1", len(jobs), page)
	}
	return jobs[0]
}

func (h *harness) nothingStored() {
	h.t.Helper()
	for _, page := range []string{acme, nordwind} {
		if jobs := h.take(page); len(jobs) != 0 {
			h.t.Errorf("%d jobs are stored for page %s, want none", len(jobs), page)
		}
	}
}

// storedExactly takes the jobs of acme and compares them with the bodies that were answered 202, by id.
func (h *harness) storedExactly(sent map[string]string) {
	h.t.Helper()
	h.compare(sent, h.take(acme))
}

func (h *harness) compare(sent map[string]string, jobs []queue.Job) {
	h.t.Helper()
	stored := make(map[string]bool)
	for _, job := range jobs {
		body, accepted := sent[job.ID]
		switch {
		case !accepted:
			h.t.Errorf("job %s was not answered 202", job.ID)
		case stored[job.ID]:
			h.t.Errorf("job %s is stored twice", job.ID)
		case string(job.Body) != body:
			h.t.Errorf("job %s has another body", job.ID)
		}
		stored[job.ID] = true
	}
	for id := range sent {
		if !stored[id] {
			h.t.Errorf("job %s was answered 202 and is not stored", id)
		}
	}
}
