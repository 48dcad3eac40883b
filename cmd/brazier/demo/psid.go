package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/pagefile"
	"github.com/brazier-relay/brazier/cmd/brazier/process"
	"github.com/brazier-relay/brazier/sendapi/sandbox"
	"github.com/brazier-relay/brazier/sendapi/webhook"
	brazesandbox "github.com/brazier-relay/brazier/worker/braze/sandbox"
	"github.com/brazier-relay/brazier/worker/capture"
)

// Ada is the person who writes: a user of Braze, and a person on Messenger whose PSID Braze does not know.
const (
	adaUser = "5d1f2a3b4c5d6e7f8a9b0c1d" // her braze_id
	adaPSID = "2100000000000001"
)

// The custom attributes of users, and for how long each step may take until the demo fails. Steps take about a second.
const (
	messengerID = "messenger_id"
	windowUntil = "messenger_window_until"
	reachable   = "messenger_reachable"
	stepTimeout = 30 * time.Second
)

// braze is the simulated Braze, and what the page file would say of it.
type braze struct {
	key       string
	workspace *pagefile.Workspace // its URL is set when the part opens
	sandbox   *brazesandbox.Sandbox
	refSecret string
}

// collect connects the pages with the simulated Braze. The secrets go to files in dir, where roles read them.
func (d *demo) collect(dir string) error {
	b := &braze{key: "demo-" + rand.Text(), refSecret: rand.Text()}
	files := map[string]string{"app.secret": sandbox.DefaultAppSecret, "verify.token": sandbox.DefaultVerifyToken,
		"ref.secret": b.refSecret, "braze.key": b.key}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	b.workspace = &pagefile.Workspace{Name: "demo", KeyFile: filepath.Join(dir, "braze.key"), Events: map[capture.EventKind]string{}}
	for _, kind := range []capture.EventKind{capture.EventSent, capture.EventFailed} {
		b.workspace.Events[kind] = capture.DefaultEventPrefix + string(kind)
	}
	app := &pagefile.App{Name: "demo-app", SecretFiles: []string{filepath.Join(dir, "app.secret")}, VerifyTokenFile: filepath.Join(dir, "verify.token")}
	for i := range d.pages { // each user is one page's, so that both may have the same attributes
		p := &d.pages[i]
		p.App, p.Webhooks, p.Braze = app.Name, app, b.workspace
		p.References = pagefile.References{SecretFiles: []string{filepath.Join(dir, "ref.secret")}, MaxAge: webhook.DefaultMaxAge}
		p.Attributes = capture.Attributes{MessengerID: messengerID, Window: windowUntil, Reachable: reachable}
	}
	d.braze = b
	return nil
}

// part is the simulated Braze on a free port. Beside the people it has one profile, without a PSID.
func (b *braze) part(people []brazesandbox.Profile) process.Part {
	var server *http.Server
	served := make(chan error, 1)
	return process.Part{
		Name: "Braze",
		Open: func(context.Context) (err error) {
			b.sandbox, err = brazesandbox.New(brazesandbox.Config{Keys: []string{b.key},
				Types:   map[string]brazesandbox.Type{messengerID: brazesandbox.String},
				Latency: 60 * time.Millisecond, Jitter: 30 * time.Millisecond})
			if err != nil {
				return err
			}
			for _, p := range append(people, brazesandbox.Profile{BrazeID: adaUser}) {
				if _, err = b.sandbox.Create(p); err != nil {
					return err
				}
			}
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			b.workspace.URL = "http://" + listener.Addr().String()
			server = &http.Server{Handler: b.sandbox, ReadHeaderTimeout: 10 * time.Second}
			go func() { served <- server.Serve(listener) }()
			return nil
		},
		Close: func() error {
			b.sandbox.Close()
			err := server.Close()
			if e := <-served; !errors.Is(e, http.ErrServerClosed) {
				err = errors.Join(err, e)
			}
			return err
		},
	}
}

// collectPSID shows how a PSID comes to Braze and is used: Ada follows a link and writes, her profile gets the PSID, and the next
// campaign is addressed to it. It returns nil also when ctx ended first.
func (d *demo) collectPSID(ctx context.Context) error {
	page := d.pages[0]
	d.screen.Say("\nCollecting PSIDs. Ada is a user of Braze without a %s: no campaign can reach her on Messenger.\n", messengerID)
	err := d.sandbox.SetWebhook(ctx, sandbox.Webhook{URL: d.ingressURL + "/webhook"})
	if err != nil {
		return unless(ctx, err)
	}
	ref, err := webhook.NewRef([]byte(d.braze.refSecret), webhook.FormBrazeID, adaUser, time.Now())
	if err != nil {
		return err
	}
	start := time.Now()
	for _, w := range []sandbox.Write{{Page: page.ID, Kind: sandbox.KindReferral, Ref: ref, New: true}, {Page: page.ID, Text: "Do you ship to Malta?"}} {
		if _, err := d.sandbox.Write(adaPSID, w); err != nil {
			return err
		}
	}
	d.screen.Say("  Ada follows the link in her e-mail, m.me/%s?ref=…, and writes to %s: signed webhooks to the ingress", page.ID, page.Name)
	var profile brazesandbox.Profile
	err = d.await(ctx, "Ada's profile in Braze to have a "+messengerID, func() bool {
		profile, err = d.braze.sandbox.Profile(adaUser)
		return err == nil && profile.Attributes[messengerID] != nil && profile.Attributes[windowUntil] != nil
	})
	if err != nil {
		return unless(ctx, err)
	}
	until, err := time.Parse(time.RFC3339, fmt.Sprint(profile.Attributes[windowUntil]))
	if err != nil {
		return fmt.Errorf("%s of Ada's profile: %w", windowUntil, err)
	}
	psid := fmt.Sprint(profile.Attributes[messengerID])
	d.screen.Say("  her profile in Braze has %s %s and %s %s, %s later", messengerID, psid, windowUntil,
		until.UTC().Format(time.DateTime), seconds(time.Since(start)))
	return d.reach(ctx, psid)
}

// reach sends the next campaign, which has one message.
func (d *demo) reach(ctx context.Context, psid string) error {
	start, before := time.Now(), d.tally.now().delivered
	status, answer := d.send(ctx, message{page: d.pages[0], psid: psid, campaign: "back-in-stock", user: adaUser, text: "Hi Ada, it is back in stock."})
	d.tally.answered(status, answer)
	if status != http.StatusAccepted {
		return unless(ctx, fmt.Errorf("the message to Ada was answered %d %s, not 202", status, answer))
	}
	err := d.await(ctx, "the message to Ada to be delivered", func() bool { return d.tally.now().delivered > before })
	if err != nil {
		return unless(ctx, err)
	}
	if got := len(d.sandbox.DeliveredTo(d.pages[0].ID, adaPSID)); got != 1 {
		return fmt.Errorf("the simulated Facebook has %d messages for Ada, not 1", got)
	}
	d.screen.Say("  the next campaign has one message more, addressed to that %s: delivered to Ada after %s", messengerID, seconds(time.Since(start)))
	return nil
}

// await returns when done is true, with an error when that takes too long or ctx ends.
func (d *demo) await(ctx context.Context, what string, done func() bool) error {
	ctx, stop := context.WithTimeout(ctx, stepTimeout)
	defer stop()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for !done() {
		select {
		case <-poll.C:
		case <-ctx.Done():
			return fmt.Errorf("waited %s for %s", stepTimeout, what)
		}
	}
	return nil
}

// unless is err, or nil once ctx has ended: what fails then fails because somebody stopped the demo.
func unless(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
