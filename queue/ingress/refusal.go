package ingress

import (
	"cmp"
	"errors"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi"
)

// refusal is an answer other than 202, or to a webhook other than 200. The author of the campaign reads its text in Braze, which cuts it: the reason comes
// first, then the remedy. The text contains no value that the caller sent.
type refusal struct {
	status int
	reason string // one of the constants below
	kind   string // more precise than reason, for the log; may be empty
	text   string
	after  int   // seconds for Retry-After, with 503
	cause  error // the error of the queue; nil if the queue was not asked
}

// Why a request was refused, as metrics and the log's key cause say it. The set is closed, so that no caller can create
// new series.
const (
	reasonAddress     = "address"     // not from --allow-from
	reasonPath        = "path"        // no such path
	reasonMethod      = "method"      // not POST
	reasonKey         = "key"         // no key, or an unknown one
	reasonPage        = "page"        // the key of another page
	reasonHeader      = "header"      // an optional header that cannot be read
	reasonMessage     = "message"     // not a Send API request
	reasonTooLarge    = "too_large"   // over a limit
	reasonSlow        = "slow"        // the body did not arrive in time
	reasonCutOff      = "cut_off"     // the body ended early
	reasonConflict    = "conflict"    // the idempotency key was used for another recipient
	reasonOverloaded  = "overloaded"  // the limits on waiting requests and bodies are reached
	reasonFull        = "full"        // the queue or its disk is full
	reasonPageFull    = "page_full"   // the page has used up its share of the queue
	reasonUnavailable = "unavailable" // the queue did not answer in time
	reasonGone        = "gone"        // the caller left before the answer
	reasonDraining    = "draining"    // Run is ending
	reasonDefect      = "defect"      // a defect of Brazier

	// Of webhooks alone.
	reasonUnsigned    = "unsigned"     // no signature that counts
	reasonSignature   = "signature"    // the signature of no secret of the apps
	reasonVerifyToken = "verify_token" // the URL is not verified
	reasonEncoding    = "encoding"     // compressed
	reasonSecrets     = "secrets"      // the secrets of an app cannot be read
)

// Seconds that Retry-After asks the caller to wait. After its first retry Braze backs off exponentially by itself.
const (
	retryFull        = 30 // a full queue drains at the rates of its pages
	retryUnavailable = 5  // a stream has a new leader after 4 to 9 s
)

// errOverloaded means that no permit to wait for the queue is free.
var errOverloaded = errors.New("too many requests are waiting for the queue")

func overloaded() *refusal {
	return &refusal{status: http.StatusServiceUnavailable, reason: reasonOverloaded, text: "too many requests are waiting for the queue: try again", after: retryUnavailable}
}

func draining() *refusal {
	return &refusal{status: http.StatusServiceUnavailable, reason: reasonDraining, text: "Brazier is shutting down: try again", after: retryUnavailable}
}

func storeRefusal(err error) *refusal {
	switch {
	case errors.Is(err, queue.ErrKeyReused):
		return &refusal{status: http.StatusConflict, reason: reasonConflict, text: "the idempotency key was used for another recipient: include the user in the key, as in {{campaign.${dispatch_id}}}/{{${braze_id}}}"}
	case errors.Is(err, errOverloaded):
		return overloaded()
	case errors.Is(err, queue.ErrPageFull):
		return &refusal{status: http.StatusServiceUnavailable, reason: reasonPageFull, text: "the queue is full for this page: try again later, when some of its messages are delivered", after: retryFull}
	case errors.Is(err, queue.ErrFull):
		return &refusal{status: http.StatusServiceUnavailable, reason: reasonFull, text: "the queue is full: try again later", after: retryFull}
	case errors.Is(err, queue.ErrTooLarge):
		return &refusal{status: http.StatusRequestEntityTooLarge, reason: reasonTooLarge, text: "the message is too large for the queue: shorten it"}
	default:
		return &refusal{status: http.StatusServiceUnavailable, reason: reasonUnavailable, text: "the queue cannot be reached: try again", after: retryUnavailable}
	}
}

// invalid makes a refusal of an error about a body that Facebook would refuse.
func invalid(err error) *refusal {
	refused := &refusal{status: http.StatusBadRequest, reason: reasonMessage, text: err.Error()}
	if why, ok := errors.AsType[*sendapi.InvalidError](err); ok {
		refused.kind = string(why.Cause)
		if why.Cause == sendapi.CauseToken {
			refused.status, refused.reason = http.StatusUnauthorized, reasonKey
		}
	}
	return refused
}

// write answers with the refusal.
func (why *refusal) write(w http.ResponseWriter) {
	if why.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", strconv.Itoa(why.after))
	}
	var body struct {
		Error struct {
			Message string `json:"message"`
			Code    int    `json:"code"` // the HTTP status
		} `json:"error"`
	}
	body.Error.Message, body.Error.Code = why.text, why.status
	writeJSON(w, why.status, body)
}

func (s *Server) refuse(w http.ResponseWriter, r *http.Request, e *exchange, why *refusal) {
	switch why.status {
	case http.StatusMethodNotAllowed:
		w.Header().Set("Allow", http.MethodPost)
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	why.write(w)
	s.metrics.observe(e.pageName(), why.status, why.reason, time.Since(e.began))
	refusals := s.unauthenticated
	if e.page != nil {
		refusals = e.page.refusals
	}
	if refusals.allow() {
		s.logRefused(r, e, why)
	}
}

// remote is how the log names the caller of a request.
func (s *Server) remote(r *http.Request, caller netip.Addr) string {
	if len(s.cfg.TrustedProxies) > 0 {
		return caller.String()
	}
	return r.RemoteAddr
}

// logRefused writes one line: store_error where the queue is at fault, rejected where the request is.
func (s *Server) logRefused(r *http.Request, e *exchange, why *refusal) {
	fields := []zap.Field{zap.String("page", e.pageName()), zap.String("reason", why.text),
		zap.String("cause", cmp.Or(why.kind, why.reason)), zap.Int("status", why.status), zap.String("remote", s.remote(r, e.caller))}
	for _, f := range [...]struct{ key, header string }{
		{"campaign", "X-Brazier-Campaign"}, {"dispatch", "X-Brazier-Dispatch"}, {"user", "X-Brazier-User"},
	} {
		h := headers{Header: r.Header}
		if value := h.text(f.header); value != "" && h.refused == nil {
			fields = append(fields, zap.String(f.key, value))
		}
	}
	if why.cause != nil && why.status != http.StatusConflict {
		s.log.Error("message not stored", append(fields, zap.String("event", "store_error"), zap.Error(why.cause))...)
		return
	}
	s.log.Warn("request rejected", append(fields, zap.String("event", "rejected"))...)
}
