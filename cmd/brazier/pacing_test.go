package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi/sandbox"
)

// pacingFor is how long each row of the pacing run is measured. Short runs, as in go test ./..., show that the limit holds
// roughly; the figures come from a minute each on a machine that does nothing else.
var pacingFor = flag.Duration("pacing", 0, "measure each row of the pacing run for this long, such as 1m, and hold it to the figures")

// TestPacing counts, in the sandbox's record, the calls that worker processes make together: at most the page's rate in
// any second, wherever it begins, and nearly as many as it allows. Without -pacing all parts run at one time, and no other
// test does: they measure.
//
//	go test ./cmd/brazier -run TestPacing -v -pacing 1m -timeout 40m
//	go test ./cmd/brazier -run 'TestPacing$/rate_300,_8' -v -pacing 1m
func TestPacing(t *testing.T) {
	rows := []pacingRow{
		{rate: 40, workers: 2},
		{rate: 300, workers: 4, disturb: "kill"},
	}
	if *pacingFor > 0 {
		rows = nil
		for _, rate := range []int{40, 300} {
			for _, workers := range []int{1, 2, 4, 8} {
				rows = append(rows, pacingRow{rate: rate, workers: workers})
			}
			rows = append(rows, pacingRow{rate: rate, workers: 4, disturb: "kill"}, pacingRow{rate: rate, workers: 4, disturb: "join and leave"})
		}
	}
	if *pacingFor == 0 {
		for name, part := range map[string]func(*testing.T){"clocks": testClocksApart, "urgent": testUrgentFirst, "throttle": testThrottleStopsAllWorkers} {
			t.Run(name, func(t *testing.T) { t.Parallel(); part(t) })
		}
		for _, row := range rows {
			t.Run(row.String(), func(t *testing.T) { t.Parallel(); row.measure(t); row.judge(t) })
		}
		return
	}
	table := tabwriter.NewWriter(t.Output(), 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "rate\tworkers\t\tmost in a second\tof the rate\tlongest gap\tCPU s/min\t")
	for _, row := range rows {
		t.Run(row.String(), func(t *testing.T) { row.measure(t); row.judge(t) })
		if row.use == 0 { // left out by -run
			continue
		}
		fmt.Fprintf(table, "%d\t%d\t%s\t%d\t%.1f %%\t%d ms\t%.1f\t\n", row.rate, row.workers, row.disturb, row.most, 100*row.use, row.gap.Milliseconds(), row.cpu)
	}
	_ = table.Flush()
}

type pacingRow struct {
	rate, workers int
	disturb       string // what happens meanwhile

	most int           // calls in a second
	use  float64       // part of the rate that was used
	gap  time.Duration // the longest between two calls
	cpu  float64       // seconds of CPU that all workers took in a minute
}

func (r *pacingRow) String() string {
	return fmt.Sprintf("rate %d, %d workers %s", r.rate, r.workers, r.disturb)
}

func (r *pacingRow) judge(t *testing.T) {
	long := *pacingFor > 0
	// A busy machine delays calls on their way, and those that were delayed arrive together.
	limit := float64(r.rate) * 1.25
	if long {
		limit = float64(r.rate) * 1.02
	}
	if float64(r.most) > limit {
		t.Errorf("rate %d, %d workers %s: %d calls in one second", r.rate, r.workers, r.disturb, r.most)
	}
	if long && r.use < 0.97 {
		t.Errorf("rate %d, %d workers %s: %.1f %% of the rate are used", r.rate, r.workers, r.disturb, 100*r.use)
	}
	if long && r.gap > 2*time.Second {
		t.Errorf("rate %d, %d workers %s: no call for %v", r.rate, r.workers, r.disturb, r.gap)
	}
}

func (r *pacingRow) measure(t *testing.T) {
	lasts := max(*pacingFor, 3*time.Second)
	page := newTestPage("1029384756", "acme")
	page.extra = fmt.Sprintf("    rate: %d\n", r.rate)
	s := newPacing(t, page)
	defer s.end()
	s.publish(page, queue.Bulk, int(float64(r.rate)*(lasts.Seconds()+5)))
	var crew []*proc
	for range r.workers {
		crew = append(crew, s.worker())
	}
	eventually(t, "all workers send", func() bool { return len(s.fb.Find(sandbox.Query{Limit: r.rate})) == r.rate })
	from, began := time.Now(), cpuOf(crew)
	r.during(s, crew, from.Add(lasts))
	to := time.Now()
	if r.disturb == "" { // else who worked is not who works
		r.cpu = (cpuOf(crew) - began).Minutes() * 60 / to.Sub(from).Minutes()
	}
	calls := between(s.fb.Find(sandbox.Query{}), from, to)
	r.most, r.gap = most(calls), longest(calls)
	r.use = float64(len(calls)) / (to.Sub(from).Seconds() * float64(r.rate))
}

// during passes the time until end, and disturbs.
func (r *pacingRow) during(s *pacing, crew []*proc, end time.Time) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for n := 0; time.Now().Before(end); n++ {
		<-tick.C
		switch {
		case r.disturb == "kill" && n == max(1, int(pacingFor.Seconds())/2):
			crew[0].signal(os.Kill)
		case r.disturb == "join and leave" && n%2 == 0:
			crew = append(crew, s.worker())
		case r.disturb == "join and leave":
			crew[0].signal(syscall.SIGTERM)
			crew = crew[1:]
		}
	}
}

// pacing is a queue, a sandbox and a page file, for workers as processes.
type pacing struct {
	t       *testing.T
	fb      *sandbox.Sandbox
	q       *queue.Queue
	nats    *proc
	address string
	pages   string
	crew    []*proc
}

func newPacing(t *testing.T, pages ...testPage) *pacing {
	t.Helper()
	cfg := sandbox.Config{Latency: 50 * time.Millisecond, RecordLimit: 1_000_000}
	for _, p := range pages {
		// No limits there: they would hide what is measured.
		cfg.Pages = append(cfg.Pages, sandbox.Page{ID: p.id, Token: p.token, AppSecret: p.secret, Rate: sandbox.Off, HighVolume: sandbox.Off})
	}
	fb, err := sandbox.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := &pacing{t: t, fb: fb, address: stableAddress(t), pages: writePages(t, pages...)}
	host, port, err := net.SplitHostPort(s.address)
	if err != nil {
		t.Fatal(err)
	}
	s.nats = startProcess(t, "nats-server", "-js", "-sd", t.TempDir(), "-a", host, "-p", port)
	if s.q, err = queue.Open(t.Context(), queue.Config{URL: "nats://" + s.address}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *pacing) worker() *proc {
	p := startProcess(s.t, "brazier", "worker", "--nats-url=nats://"+s.address, "--pages="+s.pages, "--graph-url="+s.fb.URL(),
		"--ops-listen=off", "--log-format=json", "--log-level=warn", "--slow-start=5s")
	s.crew = append(s.crew, p)
	return p
}

// end stops everything, so that the next row has the machine for itself.
func (s *pacing) end() {
	for _, p := range s.crew {
		p.signal(os.Kill)
		<-p.done
	}
	s.q.Close()
	s.nats.terminate()
	_ = s.fb.Close()
}

// publish puts n messages into the queue, each to another person.
func (s *pacing) publish(page testPage, lane queue.Lane, n int) {
	s.t.Helper()
	numbers := make(chan int)
	var senders sync.WaitGroup
	for range 64 {
		senders.Go(func() {
			for i := range numbers {
				s.publishOne(page, lane, fmt.Sprintf("2003%s%010d", strings.Repeat("0", 2), i))
			}
		})
	}
	for i := range n {
		numbers <- i
	}
	close(numbers)
	senders.Wait()
}

func (s *pacing) publishOne(page testPage, lane queue.Lane, psid string) {
	now := time.Now()
	job := &queue.Job{ID: queue.NewID(), Page: page.id, Lane: lane, Accepted: now, Expire: now.Add(time.Hour), Body: []byte(message(psid, "hello"))}
	if _, err := s.q.Publish(context.WithoutCancel(s.t.Context()), job); err != nil {
		s.t.Error(err)
	}
}

// between returns the times of the calls in a span, in order.
func between(calls []sandbox.Call, from, to time.Time) (at []time.Time) {
	for _, c := range calls {
		if !c.At.Before(from) && c.At.Before(to) {
			at = append(at, c.At)
		}
	}
	slices.SortFunc(at, time.Time.Compare)
	return at
}

// most is the highest number of calls in any second, wherever it begins.
func most(at []time.Time) (n int) {
	for from, to := 0, 0; to < len(at); to++ {
		for at[to].Sub(at[from]) >= time.Second {
			from++
		}
		n = max(n, to-from+1)
	}
	return n
}

func longest(at []time.Time) (gap time.Duration) {
	for i := 1; i < len(at); i++ {
		gap = max(gap, at[i].Sub(at[i-1]))
	}
	return gap
}
