package main

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/sendapi/webhook"
	brazesandbox "github.com/brazier-relay/brazier/worker/braze/sandbox"
)

// campaign posts a message of a campaign some times, each of which is to be answered with a status.
func (d *drill) campaign(s *scenario, page testPage, status, times int, body string) {
	d.t.Helper()
	for range times {
		got, answer, err := post(s.client, s.ingress, page, body, map[string]string{"X-Brazier-Campaign": "spring"})
		if got != status {
			d.t.Errorf("answer %d %s, error %v", got, answer, err)
		}
	}
}

// atOnce does something several times at one time.
func atOnce(n int, do func(i int)) {
	var doing sync.WaitGroup
	for i := range n {
		doing.Go(func() { do(i) })
	}
	doing.Wait()
}

func drillWrongKey(d *drill) {
	page := d.acme()
	s := d.serve([]testPage{page}, "--log-level=debug")
	wrong := page
	wrong.key = "key-of-nobody"
	d.campaign(s, wrong, http.StatusUnauthorized, 25, message("2003004005006007", "hello"))
	d.alerts()
	d.mended()
	s.post(page, "hello", 1)
	d.over()
}

func drillNoPSIDs(d *drill) {
	page := d.acme()
	s := d.serve([]testPage{page})
	d.campaign(s, page, http.StatusBadRequest, 25, message("", "hello"))
	d.alerts()
}

func drillPageFile(d *drill) {
	page := d.acme()
	s := d.serve([]testPage{page})
	good := read(d.t, s.file)
	writeFile(d.t, s.file, strings.Replace(good, "    rate: 100\n", "    rate: 100 a second\n", 1))
	d.alerts()
	d.mended()
	writeFile(d.t, s.file, good+"# mended\n")
	d.over()
}

// A certificate ends soon, and is replaced by one that has ended.
func drillCertificate(d *drill) {
	file := writePages(d.t, d.acme())
	dir := d.t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	renew := func(notAfter time.Time) {
		certPEM, keyPEM := newPair(d.t, notAfter)
		writeFile(d.t, cert, certPEM)
		writeFile(d.t, key, keyPEM)
	}
	renew(time.Now().Add(90 * 24 * time.Hour))
	d.role("serve", "--listen=127.0.0.1:0", "--data="+d.t.TempDir(), "--pages="+file, "--graph-url=http://127.0.0.1:1", "--tls-cert="+cert, "--tls-key="+key)
	d.quiet()
	renew(time.Now().Add(10 * 24 * time.Hour))
	d.alerts()
	renew(time.Now().Add(-time.Hour))
	d.lines()
	d.mended()
	renew(time.Now().Add(90 * 24 * time.Hour))
	d.over()
}

// Braze refuses the key, and then the messages are more than --max-updates allows for.
func drillBraze(d *drill) {
	w := newWorldWith(d.t, brazesandbox.Config{}, "    events: [sent, failed]\n", "    rate: 200\n")
	facebook := startProcess(d.t, "brazier", "sandbox", "--listen=127.0.0.1:0", "--control-listen=127.0.0.1:0", "--braze-listen=off", "--pages="+w.pages,
		"--latency=10ms", "--jitter=0s", "--page-rate=-1", "--high-volume=-1")
	p := d.role("serve", "--listen=127.0.0.1:0", "--data="+d.t.TempDir(), "--pages="+w.pages, "--max-updates=1MiB",
		"--graph-url="+facebook.address(d.t, `Graph API +(http://\S+)`))
	d.quiet()
	page := d.acme()
	page.key = "key 1"
	address := p.log.events("started")[0]["address"].(string)
	user := map[string]string{"X-Brazier-User": w.user(1), "X-Brazier-Campaign": strings.Repeat("spring ", 30)} // which is kept until Braze has it
	send := func(int) {
		if status, answer, err := post(w.client, address, page, message(scenarioPSID(), "hello"), user); status != http.StatusAccepted {
			d.t.Errorf("answer %d %s, error %v", status, answer, err)
		}
	}
	w.braze.Script(brazesandbox.Fault{Status: http.StatusUnauthorized, Message: "Invalid API Key", Times: -1})
	send(0)
	d.alerts("BrazierBrazeHeld")
	d.eventually("Braze is not told", func() bool { atOnce(16, send); return len(p.log.events("outcome_lost")) > 0 })
	d.alerts("BrazierBrazeNotTold")
	d.mended()
	w.braze.Clear()
	writeFile(d.t, filepath.Join(filepath.Dir(w.pages), "braze.key"), brazeKey+"\n\n")
	d.over()
}

// Facebook ends a page's subscription while the process is not there: it looks when it starts, and every 5 minutes.
func drillWebhooks(d *drill) {
	w := newWorld(d.t)
	facebook := startProcess(d.t, "brazier", "sandbox", "--listen=127.0.0.1:0", "--control-listen=127.0.0.1:0", "--braze-listen=off", "--pages="+w.pages)
	graph, control := facebook.address(d.t, `Graph API +(http://\S+)`), facebook.address(d.t, `Control +(http://\S+)`)
	s := &scenario{t: d.t, control: control, client: w.client}
	data := d.t.TempDir()
	start := func(subscribed int) *proc {
		p := d.role("serve", "--listen=127.0.0.1:0", "--data="+data, "--pages="+w.pages, "--graph-url="+graph)
		d.eventually("the subscription is known", func() bool {
			return len(d.query(fmt.Sprintf(`brazier_webhook_subscribed{page="acme"} == %d`, subscribed))) > 0
		})
		return p
	}
	subscribe := func() {
		if code, out, complaints := runCommand(d.t, "webhook", "subscribe", "acme", "--pages="+w.pages, "--graph-url="+graph); code != cli.ExitOK {
			d.t.Fatalf("subscribe: code %d, %s%s", code, out, complaints)
		}
	}
	subscribe()
	p := start(1)
	flags := []string{"--data=" + data, "--pages=" + w.pages}
	d.quiet(flags...)
	p.terminate()
	s.steer(http.MethodDelete, "/pages/"+roadBackPage+"/subscription", nil)
	p = start(0)
	d.alerts()
	d.status("", flags...)
	p.terminate()
	subscribe()
	start(1)
	d.content(flags...)
	d.found["subscription_ok"] = true // by a process that goes on, within 5 minutes: a test of worker/subscription waits for it
}

// Links are signed with another secret than the page's.
func drillForgedLinks(d *drill) {
	w := newWorld(d.t)
	p := d.role("serve", "--listen=127.0.0.1:0", "--data="+d.t.TempDir(), "--pages="+w.pages, "--graph-url=http://127.0.0.1:1")
	d.quiet()
	address, at := p.log.events("started")[0]["address"].(string), time.Now().Add(-time.Minute)
	tell := func(ref string) {
		psid := scenarioPSID()
		if status := w.tell(address, wrote(psid, "m_"+psid, at, ref)); status != http.StatusOK {
			d.t.Errorf("webhook answered %d", status)
		}
	}
	user := w.user(1)
	for range 30 {
		ref, err := webhook.NewRef([]byte("another-secret-than-the-page-has"), webhook.FormBrazeID, user, at.Add(-time.Hour))
		if err != nil {
			d.t.Fatal(err)
		}
		tell(ref)
	}
	d.alerts()
	d.mended()
	tell(reference(d.t, user, at.Add(-time.Hour)))
	d.over()
}
