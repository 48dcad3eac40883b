package queue_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// host is a server, with the connection of an operator and what a queue on it is opened with.
type host struct {
	nc  *nats.Conn
	cfg queue.Config
}

func embeddedHost(t testing.TB) host {
	t.Helper()
	srv := queuetest.Server(t, "")
	return host{raw(t, srv).Conn(), queue.Config{InProcess: srv, Embedded: true}}
}

// serverHost is a NATS server as it is downloaded, reached through its port.
func serverHost(t testing.TB) host {
	t.Helper()
	srv, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() {
		srv.Shutdown()
		srv.WaitForShutdown()
	})
	if !srv.ReadyForConnections(testTimeout) {
		t.Fatal("the server does not listen")
	}
	nc, err := nats.Connect(srv.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return host{nc, queue.Config{URL: srv.ClientURL()}}
}

// backup is what `nats stream backup` stores of a stream: backup.json and stream.tar.s2.
type backup struct {
	Config jetstream.StreamConfig `json:"config"`
	State  json.RawMessage        `json:"state"`
	data   []byte
}

// backUp requests a snapshot as `nats stream backup` does. That has no option about the format: a server of 2.15 answers
// with the second one, which holds messages and consumer states instead of the store's files.
func (h host) backUp(t testing.TB, stream string, noConsumers bool) (b backup) {
	t.Helper()
	chunks, err := h.nc.SubscribeSync(h.nc.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = chunks.Unsubscribe() }()
	request := fmt.Sprintf(`{"deliver_subject":%q,"no_consumers":%v,"chunk_size":%d,"window_size":%d}`, chunks.Subject, noConsumers, 128<<10, 8<<20)
	h.call(t, "$JS.API.STREAM.SNAPSHOT."+stream, []byte(request), &b)
	for {
		chunk, err := chunks.NextMsg(testTimeout)
		if err != nil {
			t.Fatal(err)
		}
		if len(chunk.Data) == 0 {
			if status := chunk.Header.Get("Status"); status != "" && status != "204" {
				t.Fatalf("backup of %s: %s %s", stream, status, chunk.Header.Get("Description"))
			}
			return b
		}
		b.data = append(b.data, chunk.Data...)
		if chunk.Reply != "" {
			if err := chunk.Respond(nil); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// restore sends a backup as `nats stream restore` does.
func (h host) restore(t testing.TB, b backup) {
	t.Helper()
	request, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	var to struct {
		Subject string `json:"deliver_subject"`
	}
	h.call(t, "$JS.API.STREAM.RESTORE."+b.Config.Name, request, &to)
	var restored jetstream.StreamInfo
	for data := bytes.NewBuffer(b.data); data.Len() > 0; {
		h.call(t, to.Subject, data.Next(64<<10), &restored)
	}
	h.call(t, to.Subject, nil, &restored)
	if restored.Config.Name != b.Config.Name {
		t.Fatalf("restore of %s: %+v", b.Config.Name, restored)
	}
}

// call makes a request that must not fail. The server answers chunks of a restore, but for the last, with nothing.
func (h host) call(t testing.TB, subject string, request []byte, answer any) {
	t.Helper()
	resp, err := h.nc.RequestWithContext(within(t, testTimeout), subject, request)
	if err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	var failed struct {
		Error *jetstream.APIError `json:"error"`
	}
	if len(resp.Data) > 0 {
		err = errors.Join(json.Unmarshal(resp.Data, &failed), json.Unmarshal(resp.Data, answer))
	}
	if err != nil || failed.Error != nil {
		t.Fatalf("%s: %s, %v", subject, resp.Data, err)
	}
}

// left is a backlog that a worker which is gone has left.
type left struct {
	never          []*queue.Job // never delivered
	fetched        *queue.Job   // delivered, not begun
	retried, begun *queue.Job
	due            time.Time // of retried
	done           *queue.Job
	hold           queue.PageState // of another page
}

const retryDelay = 5 * time.Second

// leave fills a queue, and closes it.
func leave(t testing.TB, q *queue.Queue) *left {
	t.Helper()
	keyed := func(key string) *queue.Job {
		j := job(acme, queue.Bulk)
		j.ID, j.Key, j.RecipientDigest = queue.KeyedID(acme, key), key, "recipient"
		return j
	}
	l := &left{begun: job(acme, queue.Bulk), retried: job(acme, queue.Bulk), fetched: job(acme, queue.Bulk), done: keyed("done")}
	dead := job(acme, queue.Bulk)
	for range 20 {
		l.never = append(l.never, job(acme, queue.Bulk))
	}
	l.never = append(l.never, keyed("waiting"))
	publish(t, q, l.begun, l.retried, l.fetched, l.done, dead)
	publish(t, q, l.never...)
	s := source(t, q, acme, queue.Bulk, 1)
	for _, want := range []*queue.Job{l.begun, l.retried, l.fetched, l.done, dead} {
		d := next(t, s)
		if d.ID != want.ID {
			t.Fatalf("got %s first, want %s", d.ID, want.ID)
		}
		if want == l.fetched {
			continue
		}
		err := d.Begin(within(t, 2*testTimeout))
		switch want {
		case l.retried:
			l.due = time.Now().Add(retryDelay)
			err = errors.Join(err, d.Retry(within(t, 2*testTimeout), 2, "transient", retryDelay))
		case l.done:
			err = errors.Join(err, d.Done(within(t, 2*testTimeout)))
		case dead:
			err = errors.Join(err, d.DeadLetter(within(t, 2*testTimeout), queue.Reason{Class: "recipient", Attempts: 1}))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	l.hold.Hold(queue.PageState{Class: "token", Reason: "the token is invalid", Manual: true})
	var err error
	if l.hold, err = q.SetPageState(within(t, 2*testTimeout), nordwind, l.hold); err != nil {
		t.Fatal(err)
	}
	q.Close()
	return l
}

// pending returns the jobs that are to come, by id.
func (l *left) pending() map[string]*queue.Job {
	all := map[string]*queue.Job{}
	for _, j := range append(l.never, l.fetched, l.retried, l.begun) {
		all[j.ID] = j
	}
	return all
}

// check takes the backlog from where it was moved to.
func (l *left) check(t *testing.T, q *queue.Queue) {
	t.Helper()
	for _, j := range []*queue.Job{l.done, l.never[len(l.never)-1]} {
		again := *j
		again.Body = []byte(`{"text":"another"}`)
		if stored, err := q.Publish(within(t, 2*testTimeout), &again); err != nil || !stored.Duplicate || !stored.BodyDiffers {
			t.Errorf("key %q is published again: %+v, %v", j.Key, stored, err)
		}
		again.RecipientDigest = "another"
		if _, err := q.Publish(within(t, 2*testTimeout), &again); !errors.Is(err, queue.ErrKeyReused) {
			t.Errorf("key %q is published for another recipient: %v", j.Key, err)
		}
	}
	if state, err := q.PageState(within(t, 2*testTimeout), nordwind); err != nil || state != l.hold {
		t.Errorf("page is %+v, %v; want %+v", state, err, l.hold)
	}

	s := source(t, q, acme, queue.Bulk, 4)
	want := l.pending()
	for range len(want) {
		d := next(t, s)
		if want[d.ID] == nil {
			t.Fatalf("got %s, which was settled or came before", d.ID)
		}
		equal(t, "job", d.Job, *want[d.ID])
		delete(want, d.ID)
		attempts, doubt := 0, false
		switch d.ID {
		case l.begun.ID:
			attempts, doubt = 1, true
		case l.retried.ID:
			attempts = 2
			if early := time.Until(l.due); early > retryDelay/20 {
				t.Errorf("the retry comes %v early", early)
			}
		}
		if d.Attempts != attempts || d.InDoubt != doubt {
			t.Errorf("%s has attempts %d, in doubt %v %q; want %d, %v", d.ID, d.Attempts, d.InDoubt, d.Doubt, attempts, doubt)
		}
		if err := d.Begin(within(t, 2*testTimeout)); err != nil {
			t.Error(err)
		}
		done(t, d)
	}
	late := job(acme, queue.Bulk)
	publish(t, q, late)
	if d := next(t, s); d.ID != late.ID {
		t.Errorf("got %s again, want the job that was published after the move", d.ID)
	} else {
		done(t, d)
	}
	isEmpty(t, q, acme)
	for _, d := range rest(t, s) {
		t.Errorf("%s came again", d.ID)
	}
	if b, err := q.Backlog(within(t, 2*testTimeout), acme); err != nil || b.Dead != 1 {
		t.Errorf("backlog is %+v, %v; want one dead letter", b, err)
	}
}

// A backlog that is moved with `nats stream backup` and `nats stream restore` is delivered once, and what was known of
// its jobs is still known, wherever their consumers had their state and whether they were moved too.
func TestBackup(t *testing.T) {
	t.Parallel()
	for _, way := range []struct {
		name     string
		from, to func(testing.TB) host
	}{
		{"embedded to server", embeddedHost, serverHost},
		{"server to embedded", serverHost, embeddedHost},
		{"server to server", serverHost, serverHost},
	} {
		for _, consumers := range []string{"in memory", "on files", "left behind"} {
			t.Run(way.name+"/consumers "+consumers, func(t *testing.T) {
				t.Parallel()
				from, to := way.from(t), way.to(t)
				q := open(t, from.cfg.WithLease(lease).AsAnotherProcess())
				js, err := jetstream.New(from.nc)
				if err != nil {
					t.Fatal(err)
				}
				if consumers == "on files" {
					_, err := js.CreateConsumer(t.Context(), queue.StreamJobs, jetstream.ConsumerConfig{
						Durable: acme + "-bulk", FilterSubject: "brazier.jobs." + acme + ".bulk.*", AckPolicy: jetstream.AckExplicitPolicy,
					})
					if err != nil {
						t.Fatal(err)
					}
				}
				l := leave(t, q)
				for _, stream := range []string{queue.StreamJobs, queue.StreamRecords, queue.StreamDead, "KV_" + queue.BucketPages} {
					to.restore(t, from.backUp(t, stream, consumers == "left behind"))
				}
				if js, err = jetstream.New(to.nc); err != nil {
					t.Fatal(err)
				}
				moved, err := js.Consumer(t.Context(), queue.StreamJobs, acme+"-bulk")
				switch {
				case consumers == "left behind":
					if !errors.Is(err, jetstream.ErrConsumerNotFound) {
						t.Errorf("the consumer was to be left behind: %v", err)
					}
				case err != nil:
					t.Error(err)
				default:
					if got := moved.CachedInfo().Config.MemoryStorage; got != (consumers == "in memory") {
						t.Errorf("the consumer has its state in memory: %v", got)
					}
				}
				l.check(t, open(t, to.cfg.WithLease(lease).AsAnotherProcess()))
			})
		}
	}
}
