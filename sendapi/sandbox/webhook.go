package sandbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Defaults of Webhook. The timeout, the hour and the 1,000 events of a body are Facebook's own figures (webhooks page, Graph
// API webhooks page). How often Facebook repeats is a guess: "immediately a few more times", then less and less often.
const (
	defaultHookTimeout = 5 * time.Second
	defaultRetryEvery  = time.Minute
	defaultRetryFor    = time.Hour
	defaultParallel    = 16
	maxBatch           = 1000
	maxParallel        = 1000
	immediateRetries   = 3
)

// DefaultAppSecret and DefaultVerifyToken are those of an App that sets none.
const (
	DefaultAppSecret   = "sandbox-app-secret"
	DefaultVerifyToken = "sandbox-verify-token"
)

// Webhook is where and how a sandbox reports what people do, as Facebook does with the webhook of an app.
type Webhook struct {
	// URL is the callback, such as http://127.0.0.1:8080/webhook. Empty: nothing is reported. A URL of Config counts as verified
	// earlier, since its server may start later; SetWebhook verifies. Only loopback addresses, unless Config.AllowRemote is set:
	// somebody's real webhook must not get simulated events.
	URL string
	// Apps are the apps that pages can name, all with this URL. Default: one with the name "sandbox".
	Apps []App
	// Fields are what a page is subscribed to when it is added. Default, if nil: what reports messages, postbacks, referrals,
	// opt-ins, reactions and policy, and with Receipts also echoes, deliveries and reads. Empty but not nil: nothing, as at Facebook.
	Fields []string
	// Timeout is within which status 200 has to arrive. Default: 5 s.
	Timeout time.Duration
	// RetryEvery is the pause before the first repetition that is not immediate; each further pause is twice as long. Default: 1 min.
	RetryEvery time.Duration
	// RetryFor is after which time of failure a delivery is dropped, and a page, none of whose deliveries succeeded in that time,
	// loses its subscription. Default: 1 h.
	RetryFor time.Duration
	// Batch is how many events a body holds at most, if so many wait. Default: 1; at most 1,000.
	Batch int
	// Parallel is how many deliveries are under way at the same time. Default: 16; at most 1,000.
	Parallel int
	// Shuffle takes waiting events in random order, and also delivers several of one person at the same time. Otherwise the events
	// of a person arrive in order, but for those that are repeated after a failure.
	Shuffle bool
	// Receipts reports what becomes of messages that the Send API accepted, as far as pages are subscribed: an echo, a delivery
	// receipt, which may lack its mids and its timestamp, and a read receipt, which has a watermark only. These events may arrive
	// before the answer to the message.
	Receipts bool
	// ReceiptsTwice sends about one in so many receipts once more, as another event: Facebook repeats what was answered too late.
	// Default: 0, none.
	ReceiptsTwice int
}

// App is a Facebook app: it has a secret, and pages subscribe to its webhook.
type App struct {
	// Name is what Page.App refers to.
	Name string
	// Secret signs the bodies of the app's webhooks. Default: DefaultAppSecret.
	Secret string
	// VerifyToken is hub.verify_token of the request that verifies the URL. Default: DefaultVerifyToken.
	VerifyToken string
}

// id is the app's id in echoes and in subscribed_apps.
func (a App) id() string { return pageIDFor("app " + a.Name) }

// resolved returns the webhook with defaults filled in, or an error that names the field at fault.
func (h Webhook) resolved(remote bool) (Webhook, error) {
	h.Timeout = cmp.Or(h.Timeout, defaultHookTimeout)
	h.RetryEvery = cmp.Or(h.RetryEvery, defaultRetryEvery)
	h.RetryFor = cmp.Or(h.RetryFor, defaultRetryFor)
	h.Batch = cmp.Or(h.Batch, 1)
	h.Parallel = cmp.Or(h.Parallel, defaultParallel)
	if h.Apps = slices.Clone(h.Apps); len(h.Apps) == 0 {
		h.Apps = []App{{Name: "sandbox"}}
	}
	for i := range h.Apps {
		a := &h.Apps[i]
		a.Secret, a.VerifyToken = cmp.Or(a.Secret, DefaultAppSecret), cmp.Or(a.VerifyToken, DefaultVerifyToken)
		if a.Name == "" || h.appIndex(a.Name) != i {
			return h, FieldError{fmt.Sprintf("Webhook.Apps[%d].Name", i), fmt.Sprintf("must be a name that no other app has (got %q)", a.Name)}
		}
	}
	for _, f := range h.Fields {
		if !slices.Contains(knownFields, f) {
			return h, FieldError{"Webhook.Fields", fmt.Sprintf("must be among %s (got %q)", strings.Join(knownFields, ", "), f)}
		}
	}
	return h, h.check(remote)
}

func (h Webhook) check(remote bool) error {
	for _, d := range []struct {
		field string
		value time.Duration
	}{{"Timeout", h.Timeout}, {"RetryEvery", h.RetryEvery}, {"RetryFor", h.RetryFor}} {
		if d.value <= 0 || d.value > maxDelay {
			return FieldError{"Webhook." + d.field, fmt.Sprintf("must be above 0 and at most %s (got %s)", maxDelay, d.value)}
		}
	}
	switch {
	case h.Batch < 1 || h.Batch > maxBatch:
		return FieldError{"Webhook.Batch", fmt.Sprintf("must be between 1 and %d (got %d)", maxBatch, h.Batch)}
	case h.ReceiptsTwice < 0:
		return FieldError{"Webhook.ReceiptsTwice", fmt.Sprintf("must not be negative (got %d)", h.ReceiptsTwice)}
	case h.Parallel < 1 || h.Parallel > maxParallel:
		return FieldError{"Webhook.Parallel", fmt.Sprintf("must be between 1 and %d (got %d)", maxParallel, h.Parallel)}
	case h.URL != "":
		return checkCallback(h.URL, remote)
	}
	return nil
}

func checkCallback(callback string, remote bool) error {
	u, err := url.Parse(callback)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return FieldError{"Webhook.URL", "must be a URL such as http://127.0.0.1:8080/webhook"}
	}
	if !remote && !isLoopback(u.Hostname()) {
		return FieldError{"Webhook.URL", fmt.Sprintf("%q is another machine, which could take simulated events for real ones: "+
			"use a loopback address, or allow remote addresses", u.Hostname())}
	}
	return nil
}

// appIndex returns the position of an app in Apps, or -1. A page that names none belongs to the first.
func (h *Webhook) appIndex(name string) int {
	if name == "" {
		return 0
	}
	return slices.IndexFunc(h.Apps, func(a App) bool { return a.Name == name })
}

func (h *Webhook) app(name string) App { return h.Apps[max(h.appIndex(name), 0)] }

// SetWebhook replaces the webhook for events to come and for repetitions of earlier ones. As Facebook does, it first verifies the
// URL with a GET request for each app, and changes nothing if that fails. The subscriptions of pages stay as they are.
func (s *Sandbox) SetWebhook(ctx context.Context, h Webhook) error {
	h, err := h.resolved(s.cfg.AllowRemote)
	if err == nil {
		err = s.checkApps(h)
	}
	if err == nil && h.URL != "" {
		err = s.verify(ctx, h)
	}
	if err != nil {
		return fmt.Errorf("sandbox: set webhook: %w", err)
	}
	s.installWebhook(h)
	return nil
}

// changeWebhook changes the webhook, and verifies it only if that is about the URL or a verify token.
func (s *Sandbox) changeWebhook(ctx context.Context, change func(*Webhook) error) error {
	old := s.webhook()
	h := old
	h.Apps = slices.Clone(old.Apps)
	if err := change(&h); err != nil {
		return err
	}
	sameToken := func(a, b App) bool { return a.Name == b.Name && a.VerifyToken == b.VerifyToken }
	if h.URL != old.URL || !slices.EqualFunc(h.Apps, old.Apps, sameToken) {
		return s.SetWebhook(ctx, h)
	}
	h, err := h.resolved(s.cfg.AllowRemote)
	if err != nil {
		return err
	}
	s.installWebhook(h)
	return nil
}

func (s *Sandbox) webhook() Webhook {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hooks.Webhook
}

func (s *Sandbox) installWebhook(h Webhook) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hooks.Webhook = h
	s.hooks.signal()
}

// checkApps returns an error if a page names an app that is not in h.
func (s *Sandbox) checkApps(h Webhook) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.pages {
		if h.appIndex(p.App) < 0 {
			return FieldError{"Webhook.Apps", fmt.Sprintf("must have %q, the app of page %s", p.App, p.ID)}
		}
	}
	return nil
}

// verify asks the URL to repeat a challenge, once with the verify token of each app (Graph API webhooks, getting started).
func (s *Sandbox) verify(ctx context.Context, h Webhook) error {
	ctx, cancel := context.WithTimeout(ctx, h.Timeout)
	defer cancel()
	stop := context.AfterFunc(s.hooks.ctx, cancel)
	defer stop()
	for _, a := range h.Apps {
		if err := s.verifyApp(ctx, h.URL, a); err != nil {
			return FieldError{"Webhook.URL", fmt.Sprintf("the verification for app %q %s", a.Name, err)}
		}
	}
	return nil
}

func (s *Sandbox) verifyApp(ctx context.Context, callback string, a App) error {
	challenge := strconv.FormatUint(1e9+s.askedRand().Uint64N(9e9), 10)
	u, err := url.Parse(callback)
	if err != nil {
		return err
	}
	q := u.Query()
	q.Set("hub.mode", "subscribe")
	q.Set("hub.challenge", challenge)
	q.Set("hub.verify_token", a.VerifyToken)
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	resp, err := s.hooks.client.Do(req)
	if err != nil {
		return errors.New("got no answer") // the error itself contains the verify token
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, int64(len(challenge))+1))
	switch {
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("was answered %d instead of 200: compare the verify tokens", resp.StatusCode)
	case err != nil || string(body) != challenge:
		return errors.New("was not answered with hub.challenge and nothing else")
	}
	return nil
}
