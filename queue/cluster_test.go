package queue_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// cluster is three NATS servers in this process.
type cluster struct {
	t       testing.TB
	options []*server.Options
	servers []*server.Server
}

func newCluster(t testing.TB) *cluster {
	t.Helper()
	c := &cluster{t: t}
	var ports []int
	var routes []*url.URL
	for i := range 6 {
		ports = append(ports, queuetest.FreePort(t))
		if i >= 3 {
			routes = append(routes, &url.URL{Scheme: "nats-route", Host: fmt.Sprintf("127.0.0.1:%d", ports[i])})
		}
	}
	for i := range 3 {
		c.options = append(c.options, &server.Options{
			ServerName: fmt.Sprintf("n%d", i), Host: "127.0.0.1", Port: ports[i], JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
			Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: ports[3+i]}, Routes: routes,
		})
		c.servers = append(c.servers, nil)
	}
	t.Cleanup(func() {
		for i := range c.servers {
			c.stop(i)
		}
	})
	for i := range 3 {
		c.start(i)
	}
	return c
}

func (c *cluster) start(i int) {
	c.t.Helper()
	s, err := server.NewServer(c.options[i].Clone())
	if err != nil {
		c.t.Fatal(err)
	}
	lines := &fatalLog{}
	s.SetLoggerV2(lines, false, false, false)
	s.Start()
	c.servers[i] = s
	if !s.ReadyForConnections(testTimeout) {
		c.t.Fatalf("%s does not start: %v", c.options[i].ServerName, lines.fatal.Load())
	}
}

// fatalLog keeps why a server does not start, which as a process it would exit with.
type fatalLog struct{ fatal atomic.Value }

func (l *fatalLog) Fatalf(format string, v ...any) { l.fatal.Store(fmt.Sprintf(format, v...)) }
func (*fatalLog) Noticef(string, ...any)           {}
func (*fatalLog) Warnf(string, ...any)             {}
func (*fatalLog) Errorf(string, ...any)            {}
func (*fatalLog) Debugf(string, ...any)            {}
func (*fatalLog) Tracef(string, ...any)            {}

func (c *cluster) stop(i int) {
	if s := c.servers[i]; s != nil {
		s.Shutdown()
		s.WaitForShutdown()
		c.servers[i] = nil
	}
}

// restart takes a node out in good order and brings it back, and returns when it has caught up.
func (c *cluster) restart(i int) {
	c.t.Helper()
	c.stop(i)
	c.start(i)
	eventually(c.t, "the node is healthy", func() bool { return c.healthy(i) })
}

func (c *cluster) healthy(i int) bool {
	status := c.servers[i].Healthz(nil)
	return status != nil && status.Status == "ok"
}

// url is that of all nodes, node i first.
func (c *cluster) url(i int) string {
	all := ""
	for k := range 3 {
		all += fmt.Sprintf(",nats://127.0.0.1:%d", c.options[(i+k)%3].Port)
	}
	return all[1:]
}

// stepDown makes another node lead what the subject of the API names.
func (c *cluster) stepDown(what string) {
	c.t.Helper()
	nc, err := nats.Connect(c.url(0))
	if err != nil {
		c.t.Fatal(err)
	}
	defer nc.Close()
	eventually(c.t, "the leader steps down", func() bool {
		resp, err := nc.Request("$JS.API."+what, nil, 5*time.Second)
		return err == nil && string(resp.Data) != "" && !containsError(resp.Data)
	})
}

// lead makes a node lead a stream.
func (c *cluster) lead(stream string, node int) {
	c.t.Helper()
	nc, err := nats.Connect(c.url(node))
	if err != nil {
		c.t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		c.t.Fatal(err)
	}
	name := fmt.Sprintf("n%d", node)
	eventually(c.t, name+" leads "+stream, func() bool {
		found, err := js.Stream(c.t.Context(), stream)
		if err == nil && found.CachedInfo().Cluster.Leader == name {
			return true
		}
		_, _ = nc.Request("$JS.API.STREAM.LEADER.STEPDOWN."+stream, fmt.Appendf(nil, `{"placement":{"preferred":%q}}`, name), 5*time.Second) // it is asked again
		return false
	})
}

func containsError(answer []byte) bool { return len(answer) > 10 && string(answer[:9]) == `{"error":` }

// A new leader delivers a job again that is older than a lease, since the server files a delivery under the time at which
// the job was stored. The worker that works on it keeps it.
func TestLeaderChange(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	lease := 3 * time.Second
	a := open(t, queue.Config{URL: c.url(0)}.WithLease(lease))
	b := open(t, queue.Config{URL: c.url(1)}.WithLease(lease))
	j := job(acme, queue.Bulk)
	publish(t, a, j)
	aged(t, lease)
	first := next(t, source(t, a, acme, queue.Bulk, 1))
	if err := first.Begin(within(t, 2*testTimeout)); err != nil || first.InDoubt {
		t.Fatalf("begin: %v, in doubt %v", err, first.InDoubt)
	}
	c.stepDown("CONSUMER.LEADER.STEPDOWN.BRAZIER_JOBS." + acme + "-bulk")
	c.stepDown("STREAM.LEADER.STEPDOWN.BRAZIER_JOBS")
	theirs := source(t, b, acme, queue.Bulk, 1)
	for range 2 { // what comes after it comes, and it does not, over two leases
		after := job(acme, queue.Bulk)
		publish(t, b, after)
		d := next(t, theirs)
		if d.ID != after.ID {
			t.Errorf("the other worker got %s, in doubt %v %q; want %s", d.ID, d.InDoubt, d.Doubt, after.ID)
		}
		done(t, d)
		aged(t, lease)
	}
	done(t, first)
	eventually(t, "nothing is pending", func() bool {
		backlog, err := a.Backlog(within(t, 2*testTimeout), acme)
		return err == nil && backlog.Pending == 0
	})
}

// aged returns after a lease.
func aged(t testing.TB, lease time.Duration) {
	t.Helper()
	select {
	case <-time.After(lease + lease/10):
	case <-t.Context().Done():
	}
}

// tally counts what became of jobs.
type tally struct {
	mu      sync.Mutex
	begun   map[string]int
	inDoubt []string
}

func (y *tally) note(d *queue.Delivery) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.begun[d.ID]++
	if d.InDoubt {
		y.inDoubt = append(y.inDoubt, d.ID+": "+d.Doubt)
	}
}

func (y *tally) count() int {
	y.mu.Lock()
	defer y.mu.Unlock()
	return len(y.begun)
}

// work begins and settles jobs, several at a time, until ctx ends.
func (y *tally) work(ctx context.Context, t *testing.T, q *queue.Queue) {
	s := q.Source(acme, queue.Bulk, 4)
	defer context.AfterFunc(ctx, s.Stop)()
	permits := make(chan struct{}, 8)
	var handling sync.WaitGroup
	defer handling.Wait()
	for {
		d, err := s.Next(context.Background())
		if err != nil {
			if !errors.Is(err, queue.ErrStopped) {
				t.Error(err)
			}
			return
		}
		permits <- struct{}{}
		handling.Go(func() {
			defer func() { <-permits }()
			settle, cancel := context.WithTimeout(context.Background(), 2*testTimeout) // the test's own ends before they are settled
			defer cancel()
			if err := d.Begin(settle); err != nil {
				if !errors.Is(err, queue.ErrTaken) {
					t.Errorf("begin: %v", err)
				}
				if err := d.Release(settle); err != nil {
					t.Errorf("release: %v", err)
				}
				return
			}
			y.note(d)
			<-time.After(50 * time.Millisecond) // the call
			if err := d.Done(settle); err != nil {
				t.Errorf("done: %v", err)
			}
		})
	}
}

// A rolling restart of the nodes, with a backlog that is older than a lease: every job is begun once, none is in doubt, and
// no publish is refused.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	lease := 6 * time.Second
	var workers []*queue.Queue
	for i := range 3 {
		workers = append(workers, open(t, queue.Config{URL: c.url(i)}.WithLease(lease)))
	}
	var accepted atomic.Int64
	for range 300 {
		publish(t, workers[0], job(acme, queue.Bulk))
		accepted.Add(1)
	}
	aged(t, lease)

	y := &tally{begun: map[string]int{}}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for _, q := range workers {
		running.Go(func() { y.work(ctx, t, q) })
		running.Go(func() {
			pace := time.NewTicker(20 * time.Millisecond)
			for n := 0; n < 200 && ctx.Err() == nil; n++ { // however long the restarts take
				<-pace.C
				if _, err := q.Publish(within(t, testTimeout), job(acme, queue.Bulk)); err != nil {
					t.Errorf("publish: %v", err)
				}
				accepted.Add(1)
			}
		})
	}
	for i := range 3 {
		before := y.count()
		eventually(t, "the workers are at work", func() bool { return y.count() > before+20 })
		c.restart(i)
	}
	stop()
	running.Wait()

	ctx, stop = context.WithCancel(t.Context())
	for _, q := range workers {
		running.Go(func() { y.work(ctx, t, q) })
	}
	eventually(t, "all are settled", func() bool {
		backlog, err := workers[0].Backlog(within(t, 2*testTimeout), acme)
		return err == nil && backlog.Pending == 0
	})
	stop()
	running.Wait()
	twice := 0
	for _, n := range y.begun {
		if n > 1 {
			twice++
		}
	}
	if int64(len(y.begun)) != accepted.Load() || twice > 0 || len(y.inDoubt) > 0 {
		t.Errorf("%d accepted, %d begun, %d of them twice, in doubt: %v", accepted.Load(), len(y.begun), twice, y.inDoubt)
	}
	t.Logf("%d jobs", len(y.begun))
}

// One replica on a cluster, workers on different servers: they go by the job's record, not by the server that delivered it.
func TestOneReplicaOnCluster(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	cfg := queue.Config{Replicas: 1}.WithLease(6 * time.Second)
	cfg.URL = c.url(0)
	a := open(t, cfg)
	cfg.URL = c.url(1)
	b := open(t, cfg)
	publish(t, a, job(acme, queue.Bulk), job(acme, queue.Bulk), job(acme, queue.Bulk))
	ours, theirs := source(t, a, acme, queue.Bulk, 1), source(t, b, acme, queue.Bulk, 1)
	begun := next(t, ours)
	if err := begun.Begin(within(t, 2*testTimeout)); err != nil {
		t.Fatal(err)
	}
	done(t, next(t, theirs))
	for i := range 3 { // one of them has the stream
		c.restart(i)
	}
	last := next(t, theirs)
	if last.ID == begun.ID || last.InDoubt {
		t.Errorf("got %s, in doubt %v %q; %s is another's", last.ID, last.InDoubt, last.Doubt, begun.ID)
	}
	done(t, last)
	done(t, begun)
	eventually(t, "nothing is pending", func() bool {
		backlog, err := a.Backlog(within(t, 2*testTimeout), acme)
		return err == nil && backlog.Pending == 0
	})
}

// Two servers of three are gone while jobs are begun and settled, and a page's state is set. The leader keeps the write
// on its way until they are back, and refuses its repetition meanwhile: that is no other worker's write.
func TestSettleOverLostQuorum(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	q := open(t, queue.Config{URL: c.url(0)})
	publish(t, q, job(acme, queue.Bulk), job(acme, queue.Bulk))
	jobs := source(t, q, acme, queue.Bulk, 2)
	begun, fresh := next(t, jobs), next(t, jobs)
	if err := begun.Begin(within(t, 2*testTimeout)); err != nil {
		t.Fatal(err)
	}
	c.lead(queue.StreamRecords, 0)
	c.lead("KV_"+queue.BucketPages, 0)
	c.stop(1)
	c.stop(2)
	var settling sync.WaitGroup
	ctx := within(t, 2*testTimeout)
	settling.Go(func() {
		if err := begun.Done(ctx); err != nil {
			t.Errorf("done: %v", err)
		}
	})
	settling.Go(func() {
		if err := fresh.Begin(ctx); err != nil {
			t.Errorf("begin: %v", err)
		}
	})
	settling.Go(func() {
		if _, err := q.SetPageState(ctx, acme, queue.PageState{Class: "page"}); err != nil {
			t.Errorf("set state: %v", err)
		}
	})
	aged(t, 8*time.Second) // in which each is tried more than once
	c.start(1)
	c.start(2)
	settling.Wait()
	done(t, fresh)
}
