package main

import (
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
)

// waits returns the latest line that says that a thing is waited for, nil if none does.
func (t *transcript) waits(what string) (found map[string]any) {
	for _, line := range t.events("waiting") {
		if named, _ := line["what"].(string); strings.Contains(named, what) {
			found = line
		}
	}
	return found
}

// awaitWait returns once the log says that a thing is waited for, with a reason and a remedy.
func (t *transcript) awaitWait(tb *testing.T, what, reason string) map[string]any {
	tb.Helper()
	eventually(tb, "waiting for "+what+" in\n"+t.String(), func() bool {
		line := t.waits(what)
		why, _ := line["reason"].(string)
		return line != nil && strings.Contains(why, reason) && line["remedy"] != ""
	})
	return t.waits(what)
}

func (r *role) ops(t *testing.T) string {
	t.Helper()
	return "http://" + r.log.await(t, "ops")["address"].(string)
}

// ready waits until /readyz answers with a status and a text.
func ready(t *testing.T, ops string, status int, text string) {
	t.Helper()
	var got int
	var body string
	eventually(t, fmt.Sprintf("/readyz answers %d %s", status, text), func() bool {
		got, body = get(t, ops+"/readyz")
		return got == status && strings.Contains(body, text)
	})
	t.Logf("/readyz: %d %s", got, strings.TrimSpace(body))
}

// A server without JetStream: the role waits, says why in its log and on /readyz, and starts once there is one.
func TestRoleWithoutJetStream(t *testing.T) {
	t.Parallel()
	address, store := freeAddress(t), t.TempDir()
	host, port, _ := net.SplitHostPort(address)
	server := startProcess(t, "nats-server", "-a", host, "-p", port)
	eventually(t, "NATS", func() bool { return strings.Contains(server.log.String(), "Server is ready") })
	r := startRole(t, "ingress", "--listen=127.0.0.1:0", "--ops-listen=127.0.0.1:0", "--pages="+writePages(t, newTestPage("1029384756", "acme")),
		"--nats-url=nats://"+address, "--log-format=json")
	ops := r.ops(t)
	ready(t, ops, http.StatusServiceUnavailable, "not open: queue: waiting for JetStream")
	if status, body := get(t, ops+"/healthz"); status != http.StatusOK {
		t.Errorf("/healthz: %d %s", status, body)
	}
	line := r.log.awaitWait(t, "JetStream", "JetStream is not enabled on this server")
	if _, body := get(t, ops+"/readyz"); !strings.Contains(body, line["reason"].(string)) || !strings.Contains(body, line["remedy"].(string)) {
		t.Errorf("/readyz %q does not have the reason and the remedy of the log, %v", body, line)
	}
	server.signal(syscall.SIGKILL)
	<-server.done
	startProcess(t, "nats-server", "-js", "-sd", store, "-a", host, "-p", port)
	r.log.await(t, "started")
	r.log.await(t, "waited")
	ready(t, ops, http.StatusOK, "ready")
}

// Three replicas on a single server are a wrong setting.
func TestRoleWithReplicasOnSingleServer(t *testing.T) {
	t.Parallel()
	address := freeAddress(t)
	host, port, _ := net.SplitHostPort(address)
	server := startProcess(t, "nats-server", "-js", "-sd", t.TempDir(), "-a", host, "-p", port)
	eventually(t, "NATS", func() bool { return strings.Contains(server.log.String(), "Server is ready") })
	pages := "--pages=" + writePages(t, newTestPage("1029384756", "acme"))
	for _, role := range [][]string{{"ingress", "--listen=127.0.0.1:0"}, {"worker", "--graph-url=http://127.0.0.1:1"}} {
		r := startRole(t, append(role, "--ops-listen=off", pages, "--nats-url=nats://"+address, "--replicas=3", "--log-format=json")...)
		code := <-r.code
		r.code <- code
		if code != cli.ExitUsage || !strings.Contains(r.log.String(), "3 replicas need a cluster, and this is a single server; ask for one replica (--replicas)") {
			t.Errorf("%s: exit code %d\n%s", role[0], code, r.log.String())
		}
	}
}

// clusterOfThree writes the configurations of a NATS cluster, whose servers are called nats-0 to nats-2.
func clusterOfThree(t *testing.T, syncInterval string) (addresses, configs []string) {
	t.Helper()
	var routes []string
	for range 3 {
		addresses, routes = append(addresses, stableAddress(t)), append(routes, fmt.Sprintf("%q", "nats-route://"+stableAddress(t)))
	}
	dir := t.TempDir()
	for i, address := range addresses {
		configs = append(configs, filepath.Join(dir, fmt.Sprintf("nats-%d.conf", i)))
		writeFile(t, configs[i], fmt.Sprintf("server_name: nats-%d\nlisten: %q\njetstream { store_dir: %q, sync_interval: %s }\ncluster { name: three, listen: %s, routes: [%s] }\n",
			i, address, filepath.Join(dir, fmt.Sprint(i)), syncInterval, strings.ReplaceAll(routes[i], "nats-route://", ""), strings.Join(routes, ", ")))
	}
	return addresses, configs
}

// Two servers of three are killed: neither role can do its work, both say so, and go on by themselves.
func TestRolesWithoutLeader(t *testing.T) {
	t.Parallel()
	addresses, configs := clusterOfThree(t, "2m")
	start := func(i int) *proc { return startProcess(t, "nats-server", "-c", configs[i]) }
	var servers []*proc
	for i := range 3 {
		servers = append(servers, start(i))
	}
	page := newTestPage("1029384756", "acme")
	common := []string{"--ops-listen=127.0.0.1:0", "--pages=" + writePages(t, page), "--nats-url=nats://" + addresses[0], "--log-format=json"}
	ingress := startRole(t, append([]string{"ingress", "--listen=127.0.0.1:0"}, common...)...)
	worker := startRole(t, append([]string{"worker", "--graph-url=http://127.0.0.1:1"}, common...)...)
	at := ingress.log.await(t, "started")["address"].(string)
	worker.log.await(t, "started")
	for _, r := range []*role{ingress, worker} {
		ready(t, r.ops(t), http.StatusOK, "ready")
	}

	for _, i := range []int{1, 2} {
		servers[i].signal(syscall.SIGKILL)
		<-servers[i].done
	}
	client := &http.Client{}
	defer client.CloseIdleConnections()
	statuses := make(chan int, 1)
	go func() {
		status, _, _ := post(client, at, page, message("2003004005006007", "Hello"), nil)
		statuses <- status
	}()
	ingress.log.awaitWait(t, "stream BRAZIER_", "")
	worker.log.awaitWait(t, "BRAZIER_", "leader")
	ready(t, ingress.ops(t), http.StatusServiceUnavailable, "queue: waiting for stream BRAZIER_")
	ready(t, worker.ops(t), http.StatusServiceUnavailable, "queue: waiting for ")
	for _, r := range []*role{ingress, worker} {
		if status, _ := get(t, r.ops(t)+"/healthz"); status != http.StatusOK {
			t.Errorf("/healthz: %d", status)
		}
	}
	for _, i := range []int{1, 2} {
		start(i)
	}
	for _, r := range []*role{ingress, worker} {
		ready(t, r.ops(t), http.StatusOK, "ready")
		r.log.await(t, "waited")
		for _, line := range r.log.events("waiting") {
			for _, inner := range []string{"nats: ", "context deadline", "outbound buffer"} {
				if strings.Contains(fmt.Sprint(line), inner) {
					t.Errorf("a line has %q: %v", inner, line)
				}
			}
		}
	}
	t.Logf("the message that waited was answered %d", <-statuses)
}
