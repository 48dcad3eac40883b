package queue_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// What a connection is answered, and what it fetches, comes to inboxes of its role, so that the server can keep the roles
// apart.
func TestRoleHasItsInboxes(t *testing.T) {
	t.Parallel()
	for role, prefix := range map[string]string{"": "_INBOX_brazier_admin", "worker": "_INBOX_brazier_worker"} {
		srv := queuetest.Server(t, "")
		nc, err := nats.Connect("", nats.InProcessServer(srv))
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		heard, err := nc.SubscribeSync("*.>")
		if err != nil {
			t.Fatal(err)
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		q := open(t, queue.Config{InProcess: srv, Role: role})
		publish(t, q, job(acme, queue.Bulk))
		done(t, next(t, source(t, q, acme, queue.Bulk, 1)))
		if _, err := q.PageStates(within(t, 2*testTimeout)); err != nil {
			t.Fatal(err)
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		answers := 0
		for {
			msg, err := heard.NextMsg(100 * time.Millisecond)
			if err != nil {
				break
			}
			if strings.HasPrefix(msg.Subject, prefix+".") {
				answers++
			} else if strings.HasPrefix(msg.Subject, "_INBOX") {
				t.Errorf("role %q: an answer comes to %s", role, msg.Subject)
			}
		}
		if answers == 0 {
			t.Errorf("role %q: no answer comes to %s", role, prefix)
		}
	}
}

func TestOpenRefusesRole(t *testing.T) {
	t.Parallel()
	for _, role := range []string{"work.er", "worker.>", "*", "Worker", "worker 1"} {
		if _, err := queue.Open(within(t, 2*testTimeout), queue.Config{InProcess: queuetest.Server(t, ""), Role: role}); err == nil || !strings.Contains(err.Error(), "Role") {
			t.Errorf("%q: %v", role, err)
		}
	}
}
