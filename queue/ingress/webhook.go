package ingress

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/sendapi/webhook"
)

// Webhooks
//
// Facebook posts the events of an app's pages to one URL, signed with the app's secret:
//
//	GET   proves to Facebook that the URL is the app's     200 with the challenge, or 403
//	POST  events                                           200 once all of them are stored
//
// What is answered otherwise than 200 is repeated by Facebook, as a whole, for an hour at the least. Then Facebook unsubscribes
// the page (webhooks page). So 200 is answered to everything that would not be stored at the next try either: events of unknown
// kinds and pages, receipts, a body that is signed and cannot be read. Events that come again are recognised by the queue.

// webhookTime is within what a webhook is answered, its body included. Facebook waits for 5 s (webhooks page); the second between
// is for the answer to reach Facebook. It also bounds how long a sender without a secret can occupy memory for a body.
const webhookTime = 4 * time.Second

// publishing is how many events are on their way to the queue at one time, over all webhooks: two batches of the queue's writer,
// one that is being stored and one that waits. Each takes a goroutine.
const publishing = 1024

// webhooks is what a Server has for webhooks alone.
type webhooks struct {
	limits     *limits
	publishing chan struct{} // one element per event on its way to the queue
	metrics    *webhookMetrics

	// Lines about senders without a secret have a sampler of their own: a flood of them must not suppress the lines about Facebook.
	unsigned, signed *sampler
}

func (s *Server) newWebhooks() *webhooks {
	l := newLimits(s.cfg.MaxWebhooksWaiting, s.cfg.MaxWebhookBytes, s.cfg.MaxWebhookBody)
	return &webhooks{limits: l, publishing: make(chan struct{}, publishing), metrics: newWebhookMetrics(l),
		unsigned: s.newSampler("webhook_refused", ""), signed: s.newSampler("webhook_error", "")}
}

// notification is one request of Facebook, and what becomes of it.
type notification struct {
	began     time.Time
	caller    netip.Addr // see Server.caller
	known     *knownApps
	signers   []*knownApp // whose secret gave the signature; empty until it is checked
	bodyBytes int64       // reserved of the limits until the events are stored or refused
	whole     bool        // the body was read to its end
	size      int         // of the body, in bytes
}

// respondWebhook answers a webhook, and reports whether its connection is to be closed with bytes of the body unread.
func (s *Server) respondWebhook(w http.ResponseWriter, r *http.Request, known *knownApps) (closing bool) {
	n := notification{began: time.Now(), caller: s.caller(r), known: known}
	text, result, refused := s.handleWebhook(w, r, &n)
	s.webhooks.limits.releaseBytes(n.bodyBytes)
	if refused != nil {
		closing = mustClose(w, r, n.whole)
		s.refuseWebhook(w, r, &n, refused)
		return closing
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff") // the challenge is what the caller sent
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write([]byte(text)) // an error means that Facebook left, and repeats
	s.webhooks.metrics.observe(http.StatusOK, result, time.Since(n.began))
	return false
}

// handleWebhook returns what to answer with 200, and how that is counted, or why not 200.
func (s *Server) handleWebhook(w http.ResponseWriter, r *http.Request, n *notification) (text, result string, refused *refusal) {
	defer func() {
		if p := recover(); p != nil {
			refused = s.defect(p, "")
		}
	}()
	if nets := s.cfg.WebhookAllowFrom; len(nets) > 0 && !within(nets, n.caller) {
		return "", "", &refusal{status: http.StatusForbidden, reason: reasonAddress, text: "webhooks from this address are not allowed: add the address to --webhook-allow-from of Brazier"}
	}
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodPost:
		w.Header().Set("Allow", "GET, POST")
		return "", "", &refusal{status: http.StatusMethodNotAllowed, reason: reasonMethod, text: "the method must be GET or POST"}
	case s.draining.Load():
		return "", "", draining()
	case r.Method == http.MethodGet:
		text, refused = s.challenge(r, n)
		return text, resultVerified, refused
	}
	body, refused := s.signedBody(w, r, n)
	if refused != nil {
		return "", "", refused
	}
	result, refused = s.take(r, n, body)
	return "", result, refused
}

// challenge answers the request by which Facebook verifies the URL.
func (s *Server) challenge(r *http.Request, n *notification) (string, *refusal) {
	var tokens [][]byte
	var unread error
	for _, app := range n.known.apps {
		if app.VerifyTokens == nil {
			continue
		}
		of, err := app.VerifyTokens()
		if err != nil {
			unread = fmt.Errorf("verify tokens of app %s: %w", app.Name, err)
		}
		tokens = append(tokens, of...)
	}
	challenge, err := webhook.Challenge(r.URL.Query(), tokens)
	switch {
	case err == nil:
		s.log.Info("Facebook has verified the URL of the webhook", zap.String("event", "webhook_verified"), zap.String("remote", s.remote(r, n.caller)))
		return challenge, nil
	case errors.Is(err, webhook.ErrVerifyToken) && unread != nil:
		return "", secretsRefusal(unread)
	}
	return "", &refusal{status: http.StatusForbidden, reason: reasonVerifyToken, text: err.Error()}
}

func secretsRefusal(cause error) *refusal {
	return &refusal{status: http.StatusServiceUnavailable, reason: reasonSecrets, text: "the secrets of an app cannot be read: try again", after: retryUnavailable, cause: cause}
}

// signedBody reads the body and finds the apps that have signed it. What can be refused without the body is refused before.
func (s *Server) signedBody(w http.ResponseWriter, r *http.Request, n *notification) ([]byte, *refusal) {
	signature := r.Header.Get(webhook.SignatureHeader)
	if signature == "" {
		return nil, &refusal{status: http.StatusUnauthorized, reason: reasonUnsigned, text: "no signature: the header " + webhook.SignatureHeader + " is missing"}
	}
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return nil, &refusal{status: http.StatusUnsupportedMediaType, reason: reasonEncoding, text: "the body is compressed: send it as it was signed"}
	}
	_ = http.NewResponseController(w).SetReadDeadline(n.began.Add(webhookTime)) // without it Config.BodyTimeout bounds the body
	body, refused := s.webhooks.limits.body(w, r, &n.bodyBytes)
	if refused != nil {
		if refused.reason == reasonTooLarge {
			refused.text = "the body is over the limit of " + strconv.FormatInt(s.cfg.MaxWebhookBody, 10) + " bytes: raise --max-webhook-body of Brazier"
		}
		return nil, refused
	}
	n.whole, n.size = true, len(body)
	var unread error
	for _, app := range n.known.apps {
		secrets, err := app.Secrets()
		if err != nil {
			unread = fmt.Errorf("secrets of app %s: %w", app.Name, err)
		}
		if webhook.Verify(secrets, signature, body) {
			n.signers = append(n.signers, app)
		}
	}
	switch {
	case len(n.signers) > 0:
		return body, nil
	case unread != nil: // it may be the secret that signed
		return nil, secretsRefusal(unread)
	}
	return nil, &refusal{status: http.StatusUnauthorized, reason: reasonSignature, text: "the signature is of no secret of the apps: compare the app secret in the app dashboard"}
}

// refuseWebhook answers with a refusal, and writes one line: webhook_error where the queue or a secret is at fault.
func (s *Server) refuseWebhook(w http.ResponseWriter, r *http.Request, n *notification, why *refusal) {
	why.write(w)
	s.webhooks.metrics.observe(why.status, why.reason, time.Since(n.began))
	lines := s.webhooks.unsigned
	if len(n.signers) > 0 || why.reason == reasonSecrets {
		lines = s.webhooks.signed
	}
	if !lines.allow() {
		return
	}
	fields := []zap.Field{zap.String("reason", why.text), zap.String("cause", why.reason), zap.Int("status", why.status), zap.String("remote", s.remote(r, n.caller))}
	if why.cause != nil {
		s.log.Error("events not stored", append(fields, zap.String("event", "webhook_error"), zap.Error(why.cause))...)
		return
	}
	s.log.Warn("webhook refused", append(fields, zap.String("event", "webhook_refused"))...)
}
