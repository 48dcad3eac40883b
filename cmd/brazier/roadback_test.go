package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/sendapi/sandbox"
	"github.com/brazier-relay/brazier/sendapi/webhook"
	brazesandbox "github.com/brazier-relay/brazier/worker/braze/sandbox"
)

var roadBackEvents = flag.Int("roadback.events", 600, "events that TestRoadBackKilled sends")

const (
	roadBackPage = "1029384756"
	appSecret    = "app-secret-of-the-test-app"
	verifyToken  = "verify-token-of-the-test-app"
	refSecret    = "ref-secret-of-the-test-app"
	brazeKey     = "5ab0a8bd-7f32-4d5a-a5ad-webhook-test"
)

// world is a page file, a simulated Braze, and the client that posts webhooks as Facebook does.
type world struct {
	t        *testing.T
	braze    *brazesandbox.Sandbox
	brazeURL string
	pages    string // the page file
	client   *http.Client
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldWith(t, brazesandbox.Config{RecordLimit: 100}, "", "")
}

// newWorldWith is newWorld with more lines of YAML for the workspace and for the page.
func newWorldWith(t *testing.T, cfg brazesandbox.Config, workspace, page string) *world {
	t.Helper()
	cfg.Keys, cfg.Burst = []string{brazeKey}, brazesandbox.Off
	fake, err := brazesandbox.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(fake.API())
	t.Cleanup(server.Close)
	t.Cleanup(fake.Close)
	w := &world{t: t, braze: fake, brazeURL: server.URL, client: &http.Client{Timeout: 10 * time.Second}}
	t.Cleanup(w.client.CloseIdleConnections)
	dir := t.TempDir()
	for name, content := range map[string]string{"acme.token": "page-token-of-acme", "app.secret": appSecret, "verify.token": verifyToken,
		"ref.secret": refSecret, "braze.key": brazeKey} {
		writeFile(t, filepath.Join(dir, name), content+"\n")
	}
	w.pages = filepath.Join(dir, "pages.yaml")
	writeFile(t, w.pages, digests.Replace(`apps:
  - name: acme-app
    secret_files: [app.secret]
    verify_token_file: verify.token
braze:
  - name: eu
    url: `+w.brazeURL+`
    key_file: braze.key
`+workspace+`pages:
  - id: "`+roadBackPage+`"
    name: acme
    token_file: acme.token
    keys: [KEY1]
    app: acme-app
    braze: eu
    ref_secret_files: [ref.secret]
`+page))
	return w
}

// reference is what Liquid makes for a user.
func reference(t *testing.T, user string, made time.Time) string {
	t.Helper()
	ref, err := webhook.NewRef([]byte(refSecret), webhook.FormBrazeID, user, made)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// wrote is the body of a webhook that tells of a message.
func wrote(psid, mid string, at time.Time, ref string) []byte {
	referral := ""
	if ref != "" {
		referral = fmt.Sprintf(`,"referral":{"ref":%q,"source":"SHORTLINK","type":"OPEN_THREAD"}`, ref)
	}
	return fmt.Appendf(nil, `{"object":"page","entry":[{"id":%q,"time":%d,"messaging":[{"sender":{"id":%q},"recipient":{"id":%q},"timestamp":%d,`+
		`"message":{"mid":%q,"text":"this is private"%s}}]}]}`, roadBackPage, at.UnixMilli(), psid, roadBackPage, at.UnixMilli(), mid, referral)
}

// tell posts a webhook as Facebook does and returns the answer's status, 0 if there was none.
func (w *world) tell(address string, body []byte) int {
	mac := hmac.New(sha256.New, []byte(appSecret))
	_, _ = mac.Write(body)
	req, err := http.NewRequest(http.MethodPost, "http://"+address+"/webhook", bytes.NewReader(body))
	if err != nil {
		w.t.Error(err)
		return 0
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	resp, err := w.client.Do(req)
	if err != nil {
		return 0
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode
}

func (w *world) attribute(user, name string) any {
	p, err := w.braze.Profile(user)
	if err != nil {
		w.t.Fatal(err)
	}
	return p.Attributes[name]
}

// events returns the names of a user's events, sorted.
func (w *world) events(user string) (names []string) {
	p, err := w.braze.Profile(user)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range p.Events {
		names = append(names, e.Name)
	}
	slices.Sort(names)
	return names
}

func (w *world) user(n int) string {
	id := fmt.Sprintf("%024x", 0xada000+n)
	if _, err := w.braze.Profile(id); err != nil {
		if _, err := w.braze.Create(brazesandbox.Profile{BrazeID: id}); err != nil {
			w.t.Fatal(err)
		}
	}
	return id
}

// A person follows a link from a campaign and writes, and Braze knows the PSID and the window. Secrets and texts are in no line.
func TestRoadBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := w.user(1)
	r := startRole(t, "serve", "--listen=127.0.0.1:0", "--ops-listen=127.0.0.1:0", "--data="+t.TempDir(), "--pages="+w.pages,
		"--graph-url=http://127.0.0.1:1", "--log-format=json", "--log-level=debug")
	address := r.log.await(t, "started")["address"].(string)

	resp, err := w.client.Get("http://" + address + "/webhook?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=" + verifyToken)
	if err != nil {
		t.Fatal(err)
	}
	challenge, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK || string(challenge) != "1158201444" {
		t.Errorf("verification: %d %s", resp.StatusCode, challenge)
	}
	at := time.Now().Add(-time.Minute).Truncate(time.Millisecond)
	ref := reference(t, ada, at.Add(-time.Hour))
	for range 2 { // Facebook's repetition
		if status := w.tell(address, wrote("7003141592653589", "m_1", at, ref)); status != http.StatusOK {
			t.Fatalf("webhook answered %d", status)
		}
	}
	eventually(t, "Braze has the PSID", func() bool { return w.attribute(ada, "messenger_id") == "7003141592653589" })
	until, err := time.Parse(time.RFC3339, fmt.Sprint(w.attribute(ada, "messenger_window_until")))
	if err != nil || !until.Equal(at.Add(24*time.Hour)) {
		t.Errorf("window until %v, %v, want %v", until, err, at.Add(24*time.Hour))
	}
	if n := len(r.log.events("linked")); n != 1 {
		t.Errorf("%d lines linked", n)
	}
	ops := "http://" + r.log.await(t, "ops")["address"].(string)
	for path, want := range map[string]string{"/readyz": "ready", "/readyz/webhooks": "ready", "/metrics": "brazier_webhook_backlog{of=\"events\"} 0"} {
		eventually(t, path+" has "+want, func() bool {
			status, answer := get(t, ops+path)
			return status == http.StatusOK && strings.Contains(answer, want)
		})
	}
	if code := r.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	keepsSecrets(t, r.log.String(), appSecret, verifyToken, refSecret, brazeKey, "this is private", "7003141592653589", ref)
}

// webhooksByRights takes webhooks, outcomes of messages and Facebook's receipts to Braze through a server on which the roles have the
// rights of deploy/nats-users.conf, and no others.
func webhooksByRights(t *testing.T) (trace string) {
	w := newWorldWith(t, brazesandbox.Config{}, "    events: [sent, failed, delivered, read, linked, inbound]\n", "")
	ada := w.user(1)
	facebook, err := sandbox.New(sandbox.Config{Pages: []sandbox.Page{{ID: roadBackPage, Token: "page-token-of-acme", App: "acme-app"}},
		Webhook: sandbox.Webhook{Receipts: true, Apps: []sandbox.App{{Name: "acme-app", Secret: appSecret, VerifyToken: verifyToken}}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = facebook.Close() })
	nats, trace := startDeployedNATS(t)
	start := func(command, user string, args ...string) *role {
		return startRole(t, append([]string{command, "--nats-url=nats://" + user + ":p" + user + "@" + nats, "--pages=" + w.pages, "--ops-listen=off", "--log-format=json"}, args...)...)
	}
	worker := start("worker", "worker", "--graph-url="+facebook.URL())
	worker.log.await(t, "started")
	ingress := start("ingress", "ingress", "--listen=127.0.0.1:0")
	address := ingress.log.await(t, "started")["address"].(string)
	hook := sandbox.Webhook{URL: "http://" + address + "/webhook", Receipts: true, ReceiptsTwice: 1, Apps: []sandbox.App{{Name: "acme-app", Secret: appSecret, VerifyToken: verifyToken}}}
	if err := facebook.SetWebhook(t.Context(), hook); err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(-time.Minute)
	for range 2 {
		if status := w.tell(address, wrote("7003141592653589", "m_1", at, reference(t, ada, at.Add(-time.Hour)))); status != http.StatusOK {
			t.Fatalf("webhook answered %d", status)
		}
	}
	eventually(t, "Braze has the PSID", func() bool { return w.attribute(ada, "messenger_id") == "7003141592653589" })
	for _, m := range []struct{ psid, user string }{{"7003141592653589", ""}, {"9000000551000001", w.user(2)}} {
		for range 2 { // the second time it is found by its key
			header := map[string]string{"X-Brazier-User": m.user, "Idempotency-Key": m.psid}
			if status, answer, err := post(w.client, address, testPage{key: "key 1"}, message(m.psid, "Hello"), header); err != nil || status != http.StatusAccepted {
				t.Fatalf("answer %d %s, error %v", status, answer, err)
			}
		}
	}
	eventually(t, "Braze has all events", func() bool {
		return slices.Equal(w.events(ada), []string{"messenger_delivered", "messenger_inbound", "messenger_linked", "messenger_read", "messenger_sent"}) &&
			slices.Equal(w.events(w.user(2)), []string{"messenger_failed"}) && w.attribute(w.user(2), "messenger_reachable") == false
	})
	updateStreams(t, nats, func() {
		worker.end()
		worker = start("worker", "worker", "--graph-url="+facebook.URL())
		worker.log.await(t, "started")
	})
	for _, r := range []*role{worker, ingress} {
		if code := r.end(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		if lines := r.log.events("nats_error"); len(lines) > 0 {
			t.Errorf("NATS refused %v", lines)
		}
	}
	return trace
}

// brazier check shows where webhooks come from and where people are written, and warns of each secret that others can read.
func TestCheckOfWebhooks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := filepath.Dir(w.pages)
	for _, name := range []string{"app.secret", "braze.key", "ref.secret"} {
		if err := os.Chmod(filepath.Join(dir, name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var out transcript
	if code := execute(t.Context(), []string{"check", "--pages=" + w.pages}, cli.Stdio{Out: &out, Err: &out}); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"workspace eu at " + w.brazeURL, "signed with the secret in " + dir + "/ref.secret, for 1512h0m0s", "messenger_id messenger_window_until messenger_reachable",
		"can read " + dir + "/app.secret", "can read " + dir + "/braze.key", "can read " + dir + "/ref.secret"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("check does not print %q:\n%s", want, out.String())
		}
	}
	keepsSecrets(t, out.String(), appSecret, verifyToken, refSecret, brazeKey)
}

// claims says what the references that came from people mean, whatever the order in which they came.
type claims struct {
	of    map[string]claim // by PSID
	about map[string]claim // by user
}

type claim struct {
	psid, user, ref string
	made            time.Time
}

func (c claims) add(x claim) {
	after := func(a, b claim) bool {
		return a.made.After(b.made) || a.made.Equal(b.made) && fingerprint(a.ref) > fingerprint(b.ref)
	}
	if old, ok := c.of[x.psid]; !ok || after(x, old) {
		c.of[x.psid] = x
	}
	if old, ok := c.about[x.user]; !ok || after(x, old) {
		c.about[x.user] = x
	}
}

func fingerprint(ref string) string {
	sum := sha256.Sum256([]byte(ref))
	return hex.EncodeToString(sum[:16])
}

func (c claims) psid(user string) any {
	if x, ok := c.about[user]; ok && c.of[x.psid].ref == x.ref {
		return x.psid
	}
	return nil
}

// Every process between webhooks and Braze is killed in turn, and Braze fails for a while, under events that come twice and in another order:
// each user ends up with the PSID that the references say, and no event is lost.
func TestRoadBackKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	nats, store := freeAddress(t), t.TempDir()
	host, port, _ := strings.Cut(nats, ":")
	common := []string{"--nats-url=nats://" + nats, "--pages=" + w.pages, "--ops-listen=off", "--log-format=json"}
	ingress := freeAddress(t)
	starts := []func() *proc{
		func() *proc { return startProcess(t, "nats-server", "-js", "-sd", store, "-a", host, "-p", port) },
		func() *proc {
			return startProcess(t, "brazier", append([]string{"ingress", "--listen=" + ingress}, common...)...)
		},
		func() *proc {
			return startProcess(t, "brazier", append([]string{"worker", "--graph-url=http://127.0.0.1:1"}, common...)...)
		},
		func() *proc {
			return startProcess(t, "brazier", append([]string{"worker", "--graph-url=http://127.0.0.1:1"}, common...)...)
		},
	}
	var running []*proc
	for _, start := range starts {
		running = append(running, start())
	}
	for _, p := range running[1:] {
		p.log.await(t, "started")
	}

	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	people := *roadBackEvents / 10
	known := claims{map[string]claim{}, map[string]claim{}}
	begin := time.Now().Add(-20 * 24 * time.Hour).Truncate(time.Second)
	var bodies [][]byte
	for i := range *roadBackEvents {
		x := claim{psid: fmt.Sprint(7_003_141_592_600_000 + random.IntN(people)), user: w.user(random.IntN(people)), made: begin.Add(time.Duration(i) * time.Minute)}
		x.ref = reference(t, x.user, x.made)
		known.add(x)
		bodies = append(bodies, wrote(x.psid, fmt.Sprint("m_", i), x.made.Add(time.Duration(random.IntN(3600))*time.Second), x.ref))
	}
	bodies = append(bodies, bodies[:len(bodies)/5]...)
	random.Shuffle(len(bodies), func(i, j int) { bodies[i], bodies[j] = bodies[j], bodies[i] })

	var told atomic.Int64
	var telling sync.WaitGroup
	next := make(chan []byte)
	for range 8 {
		telling.Go(func() {
			for body := range next {
				for w.tell(ingress, body) != http.StatusOK { // Facebook repeats
					if t.Context().Err() != nil {
						return
					}
					pause(t.Context(), 50*time.Millisecond)
				}
				told.Add(1)
			}
		})
	}
	go func() {
		defer close(next)
		for _, body := range bodies {
			select {
			case next <- body:
			case <-t.Context().Done():
				return
			}
		}
	}()
	for i := range running { // each is killed when some more events are told
		until := int64(len(bodies) * (i + 1) / (len(running) + 2))
		eventually(t, "events are told", func() bool { return told.Load() >= until })
		if i == 2 {
			w.braze.Script(brazesandbox.Fault{Status: http.StatusBadGateway, Times: 2})
			w.braze.Script(brazesandbox.Fault{Action: brazesandbox.Reset, Accept: true, Times: 1})
		}
		running[i].signal(os.Kill)
		<-running[i].done
		running[i] = starts[i]()
	}
	telling.Wait()
	if n := told.Load(); n != int64(len(bodies)) {
		t.Fatalf("%d of %d webhooks were answered 200", n, len(bodies))
	}
	wrong := func() (found []string) {
		for n := range people {
			user := w.user(n)
			if got, want := w.attribute(user, "messenger_id"), known.psid(user); got != want {
				found = append(found, fmt.Sprintf("user %s has %v, want %v", user, got, want))
			}
		}
		return found
	}
	eventually(t, "Braze has what the references say", func() bool { return len(wrong()) == 0 })
	s := w.braze.Summary()
	t.Logf("%d webhooks, %d objects in %d calls to Braze, %d overlaps", len(bodies), s.Attributes, s.Calls, s.Overlaps)
	if s.Overlaps > 0 || s.Created > 0 {
		t.Errorf("%d calls overlapped, %d profiles were made", s.Overlaps, s.Created)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
