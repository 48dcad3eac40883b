package sendapi

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
)

// Error is a refusal of Facebook's, or a call without a readable answer. Every
// error of [Client.Send] and [DecodeAnswer] is one; find it with [errors.As].
//
// An Error can be logged. What it prints is made from what Facebook sends as
// numbers and marks, and from words of this package. Facebook's own sentences may
// quote the request, ids and text included, and come in the language of whoever
// made the token: none of message, error_user_title, error_user_msg and error_data
// is kept.
type Error struct {
	// Status is the HTTP status, or 0 where no answer came.
	Status int

	// Code and Subcode are Facebook's. Codes may be negative. 0 means none: neither
	// Meta's tables nor any answer seen has a 0, while errors without a code exist
	// (GraphBatchException).
	Code    int
	Subcode int

	// Class is what the error means for the sender, always one of [Classes].
	Class Class

	// Silent reports that an answer came and holds no Graph error, so that Status
	// alone decides: a proxy, a firewall or a gateway answered, or Facebook itself
	// while in trouble.
	Silent bool

	// Type is Facebook's type, such as OAuthException, which almost every error
	// has. Others seen: FacebookApiException, IGApiException, GraphMethodException,
	// GraphBatchException. Only GraphMethodException tells something: see Explain.
	Type string

	// Transient is is_transient as sent. It is mostly absent, which reads as false.
	Transient bool

	// TraceID is fbtrace_id, by which Meta's support finds the call.
	TraceID string

	// Param is the field of the request that Facebook complains of, such as
	// message[attachment][payload], or [elements][0][title] of a template, where it
	// names one. It is put together from the field names that this package knows and
	// can hold nothing of a message.
	Param string

	// Usage is from the headers of the answer.
	Usage Usage

	// Cause is what went wrong where no Graph error tells it: the connection, the
	// context, an answer that makes no sense. Nil else.
	Cause error
}

// Error says class, meaning and numbers, in this order.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("sendapi: ")
	b.WriteString(string(e.Class))
	if m := e.meaning(); m != "" {
		b.WriteString(": ")
		b.WriteString(m)
	}
	if e.Cause != nil {
		text, _ := describe(e.Cause)
		b.WriteString(": ")
		b.WriteString(text)
	}
	if notes := e.notes(); len(notes) > 0 {
		b.WriteString(" (")
		b.WriteString(strings.Join(notes, ", "))
		b.WriteString(")")
	}
	return b.String()
}

// GoString is Error, so that %#v shows no more than %v.
func (e *Error) GoString() string { return e.Error() }

// Unwrap returns Cause.
func (e *Error) Unwrap() error { return e.Cause }

// Unreachable reports whether the call shows that Facebook is away, seen from this
// process, whatever the message was. It is true where
//
//   - no connection to Facebook came about, so that nothing was sent: the name was
//     not resolved, the connection was refused or timed out, the TLS handshake
//     failed, the proxy was away or refused to connect (Status 0, ClassTransient);
//   - the proxy wants credentials (Silent, HTTP 407);
//   - a gateway or Facebook answered HTTP 5xx without a Graph error (Silent). With
//     500, 502 and 504 the message is in doubt all the same.
//
// It is false for every Graph error, also one with HTTP 500, for every other
// answer, where the answer to a request that left was lost (ClassInDoubt with
// Status 0), where the caller canceled the call, and where the call was refused
// here.
func (e *Error) Unreachable() bool {
	if e.Status != 0 {
		return e.Silent && (e.Status == http.StatusProxyAuthRequired || 500 <= e.Status && e.Status <= 599)
	}
	return e.Class == ClassTransient && e.Cause != nil &&
		!errors.Is(e.Cause, context.Canceled) && !errors.Is(e.Cause, errNotCalled)
}

// AboutOne reports whether the refusal is about one person: the person cannot be
// reached, the window is closed, another app holds the conversation, a rule of the
// person's country forbids the message, or the message was for something of the
// person's that is gone or done (a deleted message, an answered comment, an account
// linking token). However many such refusals come in a row, they say nothing about
// the page.
func (e *Error) AboutOne() bool {
	switch e.Class {
	case ClassRecipient, ClassWindow, ClassThread:
		return true
	case ClassMessage:
		row, ok := Explain(e.Code, e.Subcode, e.Type)
		return ok && row.AboutOne
	}
	return false
}

// meaning is the table's word for the code, else for the status.
func (e *Error) meaning() string {
	if row, ok := Explain(e.Code, e.Subcode, e.Type); ok {
		return row.Meaning
	}
	if e.Code != 0 {
		return "an error code that is not known"
	}
	if e.Status != 0 {
		return rowOfStatus(e.Status).meaning
	}
	return ""
}

func (e *Error) notes() []string {
	var notes []string
	switch {
	case e.Subcode != 0:
		notes = append(notes, "code "+strconv.Itoa(e.Code)+"/"+strconv.Itoa(e.Subcode))
	case e.Code != 0:
		notes = append(notes, "code "+strconv.Itoa(e.Code))
	}
	if e.Status != 0 {
		notes = append(notes, "HTTP "+strconv.Itoa(e.Status))
	}
	if e.Type != "" {
		notes = append(notes, e.Type)
	}
	if e.Param != "" {
		notes = append(notes, "param "+e.Param)
	}
	if e.TraceID != "" {
		notes = append(notes, "trace "+e.TraceID)
	}
	return notes
}

// callFault is an error of this package's own making; its text is fixed.
type callFault string

func (f callFault) Error() string { return string(f) }

const (
	errNotJSON    callFault = "the answer is not a JSON object"
	errNoError    callFault = "the answer holds no error"
	errBoth       callFault = "the answer holds a message id and an error"
	errTooLong    callFault = "the answer is too long"
	errNotObject  callFault = "the body is not a JSON object"
	errToken      callFault = "the token is empty or holds a space or control character"
	errNotCalled  callFault = "the caller's context had ended before the call"
	errConnection callFault = "the connection failed"
)

// proxyRefusal is the HTTP status with which a proxy refused to connect (CONNECT).
type proxyRefusal int

func (r proxyRefusal) Error() string { return "the proxy answered " + strconv.Itoa(int(r)) }

// describe puts a cause into words. The words are fixed and chosen by the error's
// type, since net/http quotes what the peer sent in some of its texts. It reports
// false for an error whose text is not to be trusted with that.
func describe(err error) (text string, known bool) {
	var op *net.OpError
	if errors.As(err, &op) && (op.Op == "proxyconnect" || op.Op == "socks connect") { // net/http's names for the way to a proxy
		text, known = describe(op.Err)
		return "at the proxy: " + text, known
	}
	var (
		f         callFault
		refusal   proxyRefusal
		dns       *net.DNSError
		certErr   *tls.CertificateVerificationError
		authority x509.UnknownAuthorityError
		alert     tls.AlertError
		record    tls.RecordHeaderError
		errno     syscall.Errno
		netErr    net.Error
	)
	switch {
	case errors.As(err, &f):
		return string(f), true
	case errors.As(err, &refusal):
		return refusal.Error(), true
	case errors.Is(err, context.Canceled):
		return "canceled", true
	case errors.As(err, &dns) && dns.IsNotFound:
		return "host not found", true
	case errors.As(err, &dns):
		return "name resolution failed", true
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return "timed out", true
	case errors.As(err, &certErr), errors.As(err, &authority):
		return "the server's certificate is not trusted", true
	case errors.As(err, &alert):
		return "the server refused the TLS handshake", true
	case errors.As(err, &record):
		return "the server does not speak TLS", true
	case errors.As(err, &errno):
		return errno.Error(), true
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return "the connection was closed", true
	}
	return string(errConnection), false
}

// safeCause returns the error itself where its text holds nothing of the peer's,
// and a fixed one else. A url.Error is left out: it holds the URL of the call, in
// which the appsecret_proof stands.
func safeCause(err error) error {
	for u := (*url.Error)(nil); errors.As(err, &u); {
		err = u.Err
	}
	if text, known := describe(err); !known {
		return callFault(text)
	}
	return err
}
