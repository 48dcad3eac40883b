package main

import (
	"flag"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi/sandbox"
)

var noWorker = flag.Bool("noworker", false, "run TestNoWorker, which takes 80 s and waits most of the time")

// aliveRoles returns the roles of the processes that are alive, as a user of the NATS servers sees them.
func aliveRoles(t *testing.T, userAt string) (roles []string) {
	t.Helper()
	role, _, _ := strings.Cut(userAt, ":")
	q, err := queue.Open(t.Context(), queue.Config{URL: "nats://" + userAt, Role: role})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	alive, err := q.Alive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range alive {
		roles = append(roles, p.Role)
	}
	return roles
}

// The ingress says once that nobody works, when the last worker was killed and messages wait, and once that somebody does. It says
// nothing of a NATS server that is away for as long.
func TestNoWorker(t *testing.T) {
	if !*noWorker {
		return // .ci/run asks for it
	}
	t.Parallel()
	page := newTestPage("1029384756", "acme")
	fb, err := sandbox.New(sandbox.Config{Pages: []sandbox.Page{{ID: page.id, Token: page.token, AppSecret: page.secret}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fb.Close() })
	address, store, pages := freeAddress(t), t.TempDir(), "--pages="+writePages(t, page)
	host, port, _ := strings.Cut(address, ":")
	startNATS := func() *proc {
		nats := startProcess(t, "nats-server", "-js", "-sd", store, "-a", host, "-p", port)
		eventually(t, "NATS", func() bool { return strings.Contains(nats.log.String(), "Server is ready") })
		return nats
	}
	nats := startNATS()
	url := "--nats-url=nats://" + address
	front := startProcess(t, "brazier", "ingress", url, pages, "--listen=127.0.0.1:0", "--ops-listen=off", "--log-format=json")
	worker := func() *proc {
		w := startProcess(t, "brazier", "worker", url, pages, "--graph-url="+fb.URL(), "--ops-listen=off", "--log-format=json")
		w.log.await(t, "started")
		return w
	}
	w := worker()
	at := front.log.await(t, "started")["address"].(string)
	client := &http.Client{}
	defer client.CloseIdleConnections()
	send := func() {
		if status, answer, err := post(client, at, page, message("2003004005006007", "Hello"), nil); err != nil || status != http.StatusAccepted {
			t.Fatalf("answer %d %s, error %v", status, answer, err)
		}
	}
	status := func(code int, want string) {
		t.Helper()
		if got := command(t, "", "status", url, pages); got.code != code || !strings.Contains(got.out, want) {
			t.Errorf("status: exit code %d, want %d and %q:\n%s%s", got.code, code, want, got.out, got.err)
		}
	}
	status(cli.ExitOK, "Nothing needs a person.")
	send()
	w.log.await(t, "delivered")
	w.signal(syscall.SIGKILL)
	<-w.done
	send()
	said := front.log.await(t, "no_worker")
	if said["pending"] != float64(1) || said["since"] == nil || said["level"] != "error" {
		t.Errorf("the ingress says %v", said)
	}
	status(cli.ExitFailed, `1 message(s) wait, and no worker is alive: start "brazier worker"`)
	w = worker()
	w.log.await(t, "delivered")
	if back := front.log.await(t, "worker_back"); back["since"] != said["since"] {
		t.Errorf("the ingress says %v after %v", back, said)
	}
	if n := len(front.log.events("no_worker")); n != 1 {
		t.Errorf("said %d times", n)
	}
	status(cli.ExitOK, "Nothing needs a person.")

	nats.signal(syscall.SIGKILL)
	<-nats.done
	eventually(t, "both wait for NATS", func() bool { return len(front.log.events("waiting"))*len(w.log.events("waiting")) > 0 })
	startNATS()
	eventually(t, "both are connected", func() bool { return len(front.log.events("waited"))*len(w.log.events("waited")) > 0 })
	send()
	eventually(t, "delivered", func() bool { return len(w.log.events("delivered")) == 2 })
	if n := len(front.log.events("no_worker")); n != 1 {
		t.Errorf("said %d times, after NATS was away", n)
	}
}
