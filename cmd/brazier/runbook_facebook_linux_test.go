package main

import (
	"net/http"
	"path/filepath"
	"time"
)

// serve starts "brazier serve" with a simulated Facebook for these pages, watched and quiet.
func (d *drill) serve(pages []testPage, flags ...string) *scenario {
	d.t.Helper()
	s := newScenario(d.t, "20ms", pages, append([]string{"--ops-listen=127.0.0.1:0", "--log-level=info"}, flags...)...)
	d.watch(s.serve)
	s.post(pages[0], "hello", 1)
	s.serve.log.await(d.t, "delivered")
	d.quiet(s.flags()...)
	return s
}

// flags are for commands beside the processes.
func (s *scenario) flags() []string { return []string{"--data=" + s.data, "--pages=" + s.file} }

func (d *drill) acme() testPage { return newTestPage("1029384756", "acme") }

func drillDeadToken(d *drill) {
	page := d.acme()
	s := d.serve([]testPage{page})
	s.steer(http.MethodPost, "/pages/"+page.id+"/token", map[string]any{"dead": 463})
	s.post(page, "hello", 3)
	d.alerts()
	d.status("", s.flags()...)
	d.mended()
	s.steer(http.MethodPost, "/pages/"+page.id+"/token", map[string]any{"token": page.token + "-new"})
	writeFile(d.t, filepath.Join(filepath.Dir(s.file), "acme.token"), page.token+"-new\n")
	d.over()
}

func drillRestriction(d *drill) {
	page := d.acme()
	s := d.serve([]testPage{page})
	s.steer(http.MethodPost, "/pages/"+page.id+"/restrict", map[string]any{"code": 368})
	s.post(page, "hello", 6)
	d.alerts()
	d.status("", s.flags()...)
	d.mended()
	s.steer(http.MethodPost, "/pages/"+page.id+"/restrict", map[string]any{"code": 0})
	s.run("pages", "resume", page.id)
	d.over()
}

// One page is throttled again and again, and then all pages of its app.
func drillThrottle(d *drill) {
	page := d.acme()
	s := d.serve([]testPage{page})
	s.script(graph(400, 613, 0))
	s.post(page, "hello", 1)
	for n := range 7 {
		d.eventually("the page is held", func() bool { return len(s.serve.log.events("held")) > n })
		s.run("pages", "resume", page.id)
	}
	d.alerts()
	s.heal()
	s.script(graph(403, 4, 0))
	s.run("pages", "resume", page.id)
	s.post(page, "hello", 1)
	d.lines()
	d.mended()
	s.heal()
	d.over()
}

func drillFacebookAway(d *drill) {
	page := d.acme()
	s := d.serve([]testPage{page})
	s.steer(http.MethodPut, "/connections", map[string]bool{"refuse": true})
	s.post(page, "hello", 20)
	d.alerts()
	d.mended()
	s.steer(http.MethodPut, "/connections", map[string]bool{"refuse": false})
	d.over()
}

func drillAnswersLost(d *drill) {
	page := d.acme()
	s := d.serve([]testPage{page})
	s.script(scripted{"times": -1, "action": "close", "accept": true, "delay": "500ms"}) // so that many calls are under way
	s.post(page, "hello", 40)
	d.alerts()
	d.status("", s.flags()...)
	s.heal()
}

// A template is wrong: Facebook refuses all messages of its campaign.
func drillPoison(d *drill) {
	page := d.acme()
	s := d.serve([]testPage{page})
	s.script(graph(400, 100, 2018276).with("text", "odd offer"))
	for range 12 {
		d.campaign(s, page, http.StatusAccepted, 1, message(scenarioPSID(), "an odd offer"))
	}
	d.alerts()
	d.status("", s.flags()...)
	s.heal()
}

// All calls take six seconds, for a minute.
func drillFacebookSlow(d *drill) {
	page := d.acme()
	s := d.serve([]testPage{page})
	s.steer(http.MethodPut, "/latency", map[string]any{"latency": "6s", "jitter": "0s"})
	began := time.Now()
	s.post(page, "hello", 30)
	d.alerts()
	d.eventually("a minute is over", func() bool { return time.Since(began) > 62*time.Second })
	s.post(page, "hello", 1)
	d.lines()
	d.mended()
	s.steer(http.MethodPut, "/latency", map[string]any{"latency": "20ms", "jitter": "0s"})
	began = time.Now()
	s.post(page, "hello", 30)
	d.eventually("another minute is over", func() bool { return time.Since(began) > 62*time.Second })
	s.post(page, "hello", 1)
	d.over()
}
