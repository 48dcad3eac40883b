package main

import (
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/cmd/brazier/pagefile"
)

// get asks an ops endpoint.
func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestOps(t *testing.T) {
	t.Parallel()
	page := newTestPage("1029384756", "acme")
	args := []string{"serve", "--listen=127.0.0.1:0", "--ops-listen=127.0.0.1:0", "--pages=" + writePages(t, page), "--graph-url=http://127.0.0.1:1", "--log-format=json"}
	r := startRole(t, append(args, "--data="+t.TempDir(), "--pprof")...)
	ingress := r.log.await(t, "started")["address"].(string)
	ops := "http://" + r.log.await(t, "ops")["address"].(string)
	client := &http.Client{}
	defer client.CloseIdleConnections()
	if status, answer, err := post(client, ingress, page, message("2003004005006007", "Hello"), nil); err != nil || status != http.StatusAccepted {
		t.Fatalf("answer %d %s, error %v", status, answer, err)
	}
	_, metrics := get(t, ops+"/metrics")
	for _, want := range []string{`brazier_ingress_requests_total{page="acme",result="accepted",status="202"} 1`, "brazier_ingress_waiting_requests_limit 8192", "brazier_ingress_connections_limit 16384",
		"brazier_build_info{", "go_goroutines ", "process_open_fds ", "brazier_ingress_request_duration_seconds_bucket{"} {
		if !strings.Contains(metrics, "\n"+want) {
			t.Errorf("/metrics has no %s", want)
		}
	}
	keepsSecrets(t, metrics, page.token, page.secret, page.key, "2003004005006007", "Hello")
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/debug/pprof/": 200, "/debug/pprof/goroutine?debug=1": 200,
		"/debug/pprof/profile?seconds=1": 200, "/": 404, "/debug/": 404} {
		if status, body := get(t, ops+path); status != want {
			t.Errorf("%s: %d, want %d: %s", path, status, want, body)
		}
	}
	if code := r.end(); code != cli.ExitOK {
		t.Errorf("exit code %d", code)
	}

	plain := startRole(t, append(args, "--data="+t.TempDir())...)
	plain.log.await(t, "started")
	if status, _ := get(t, "http://"+plain.log.await(t, "ops")["address"].(string)+"/debug/pprof/"); status != http.StatusNotFound {
		t.Errorf("profiles without --pprof: %d", status)
	}
}

// While NATS is gone an ingress lets as many wait as may, refuses the others, and says that it is not ready. When NATS is back,
// those who waited are answered, and all is well.
func TestIngressWhileNATSIsGone(t *testing.T) {
	t.Parallel()
	const maxWaiting, callers = 4, 12 // maxWaiting as in --max-waiting
	page := newTestPage("1029384756", "acme")
	address, store := freeAddress(t), t.TempDir()
	host, port, _ := strings.Cut(address, ":")
	startNATS := func() *proc {
		nats := startProcess(t, "nats-server", "-js", "-sd", store, "-a", host, "-p", port)
		eventually(t, "NATS", func() bool { return strings.Contains(nats.log.String(), "Server is ready") })
		return nats
	}
	nats := startNATS()
	r := startRole(t, "ingress", "--listen=127.0.0.1:0", "--ops-listen=127.0.0.1:0", "--pages="+writePages(t, page), "--nats-url=nats://"+address,
		"--max-waiting=4", "--store-wait=60s", "--log-format=json")
	ingress := r.log.await(t, "started")["address"].(string)
	ready := "http://" + r.log.await(t, "ops")["address"].(string) + "/readyz"
	if status, body := get(t, ready); status != http.StatusOK {
		t.Fatalf("/readyz: %d %s", status, body)
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: callers}, Timeout: 90 * time.Second}
	defer client.CloseIdleConnections()

	nats.signal(syscall.SIGKILL)
	<-nats.done
	eventually(t, "/readyz says that NATS is gone", func() bool {
		status, body := get(t, ready)
		return status == http.StatusServiceUnavailable && strings.Contains(body, "no connection to NATS")
	})
	statuses := make(chan int, callers)
	for range callers {
		go func() {
			status, answer, err := post(client, ingress, page, message("2003004005006007", "Hello"), nil)
			if err != nil {
				t.Errorf("%d %s: %v", status, answer, err)
			}
			statuses <- status
		}()
	}
	for range callers - maxWaiting { // the rest waits, far longer than this takes
		if status := <-statuses; status != http.StatusServiceUnavailable {
			t.Errorf("answered %d while NATS is gone", status)
		}
	}
	startNATS()
	back := time.Now()
	eventually(t, "a message is accepted", func() bool {
		status, _, err := post(client, ingress, page, message("2003004005006007", "Hello"), nil)
		return err == nil && status == http.StatusAccepted
	})
	t.Logf("accepted %v after NATS was back", time.Since(back).Round(time.Millisecond))
	for range maxWaiting {
		if status := <-statuses; status != http.StatusAccepted {
			t.Errorf("answered %d although NATS came back in time", status)
		}
	}
	t.Logf("those who waited: %v", time.Since(back).Round(time.Millisecond))
	if status, body := get(t, ready); status != http.StatusOK {
		t.Errorf("/readyz: %d %s", status, body)
	}
}

// An ingress never uses a page token: it starts where none can be read.
func TestIngressWithoutTokens(t *testing.T) {
	dir := pageDir(t)
	file := dir + "/pages.yaml"
	writeFile(t, file, digests.Replace(`pages:
  - {id: "1", name: a, token_file: /none/a.token, app_secret_file: /none/a.secret, keys: ["KEY1"]}
  - {id: "2", name: b, token: "${BRAZIER_TEST_UNSET}", keys: ["KEY2"]}
  - {id: "3", name: c, keys: ["sha256:`+strings.Repeat("0a", 32)+`"]}
`))
	if pages, err := pagefile.Read(file, pagefile.ForIngress()); err != nil || len(pages) != 3 {
		t.Errorf("%d pages, error %v", len(pages), err)
	}
	if _, err := pagefile.Read(file, pagefile.Options{}); err == nil || strings.Count(err.Error(), "\n") != 3 {
		t.Errorf("with secrets: %v", err)
	}
	writeFile(t, file, digests.Replace("pages:\n  - {id: \"1\", token: a, token_file: b, keys: [\"KEY1\"], rate: 0}\n"))
	if _, err := pagefile.Read(file, pagefile.ForIngress()); err == nil || !strings.Contains(err.Error(), "both token and token_file") || !strings.Contains(err.Error(), "rate") {
		t.Errorf("faults that an ingress shares with others: %v", err)
	}
}

func TestUnknownVariables(t *testing.T) {
	t.Parallel()
	page := newTestPage("1029384756", "acme")
	environment := append(os.Environ(), "BRAZIER_STORE_WIAT="+marker, "BRAZIER_SANDBOX_LISTEN=127.0.0.1:1") // the latter is another command's
	r := startProcessWith(t, environment, "brazier", "ingress", "--listen=127.0.0.1:0", "--ops-listen=off", "--pages="+writePages(t, page), "--nats-url=nats://"+freeAddress(t), "--log-format=json")
	r.log.await(t, "waiting")
	if found := r.log.events("unknown_variable"); len(found) != 1 || found[0]["name"] != "BRAZIER_STORE_WIAT" {
		t.Errorf("found %v", found)
	}
	keepsSecrets(t, r.log.String(), marker)
	known := cli.VariablesOf(newParser(t).Model.Node)
	for _, name := range []string{"BRAZIER_LISTEN", "BRAZIER_SANDBOX_PAGES", "BRAZIER_DATA", "BRAZIER_TLS_CERT"} {
		if !known[name] {
			t.Errorf("%s is not known: %v", name, slices.Sorted(maps.Keys(known)))
		}
	}
}
