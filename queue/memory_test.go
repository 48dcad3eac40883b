package queue_test

import (
	"slices"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/brazier-relay/brazier/queue"
)

// Without memory for streams, of the server, of all servers of a cluster or of the account, paces are kept on file.
func TestPaceWithoutMemory(t *testing.T) {
	t.Parallel()
	account := `
		jetstream { store_dir: %DIR%, max_memory_store: 64M }
		accounts { A { jetstream: { max_mem: 0, max_file: 20G }, users: [ { user: a, password: a } ] } }
		no_auth_user: a`
	for name, url := range map[string]func(*testing.T) string{
		"server": func(t *testing.T) string {
			return natsServer(t, "jetstream { store_dir: %DIR%, max_memory_store: 0 }").ClientURL()
		},
		"cluster": func(t *testing.T) string {
			return natsCluster(t, "jetstream { store_dir: %DIR%, max_memory_store: 0 }")[0].ClientURL()
		},
		"account": func(t *testing.T) string { return natsServer(t, account).ClientURL() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			core, lines := observer.New(zap.InfoLevel)
			cfg := queue.Config{URL: url(t), MaxBytes: 64 << 20, Log: zap.New(core)}
			q := open(t, cfg)
			reserve := func(q *queue.Queue) {
				t.Helper()
				if slots, err := q.Pace(acme, "text").Reserve(within(t, testTimeout), 40, 1); err != nil || slots.N != 1 {
					t.Fatalf("slots %+v, %v; %v", slots, err, lines.All())
				}
			}
			reserve(q)
			nc, err := nats.Connect(cfg.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			js, err := jetstream.New(nc)
			if err != nil {
				t.Fatal(err)
			}
			if storage := config(t, js, "KV_"+queue.BucketPace).Storage; storage != jetstream.FileStorage {
				t.Errorf("storage %v", storage)
			}
			logged := lines.FilterField(zap.String("event", "pace_on_file")).All()
			if len(logged) != 1 || logged[0].Level != zap.WarnLevel {
				t.Errorf("lines %v", logged)
			}
			reserve(open(t, cfg)) // it is there now
			// The consumers that keep their state in memory need none of that.
			if _, err := q.PageStates(within(t, testTimeout)); err != nil {
				t.Error(err)
			}
			publish(t, q, job(acme, queue.Bulk))
			if err := next(t, source(t, q, acme, queue.Bulk, 1)).DeadLetter(within(t, 2*testTimeout), queue.Reason{Class: "window", Attempts: 1}); err != nil {
				t.Error(err)
			}
			for _, err := range q.DeadLetters(within(t, testTimeout), queue.DeadLetterFilter{}, false) {
				if err != nil {
					t.Error(err)
				}
			}
			differs := slices.DeleteFunc(setup(t, cfg, false), func(d queue.Difference) bool { return d.Stream == "KV_"+queue.BucketAlive }) // made when it is needed
			if len(differs) > 0 {
				t.Errorf("setup: %v", differs)
			}
		})
	}
}
