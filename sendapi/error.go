package sendapi

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
)

// Error is a refusal of Facebook's, or a call without a readable answer. Every
// error of [Client.Send] is one; find it with [errors.As].
//
// An Error can be logged. Its text consists of numbers and identifiers that Facebook
// sent and of fixed texts of this package. Facebook's own sentences are not kept
// (message, error_user_title, error_user_msg, error_data), since they may quote the
// request, ids and message text included, and come in the language of whoever made
// the token.
type Error struct {
	// Status is the HTTP status, or 0 where no answer came.
	Status int

	// Code and Subcode are Facebook's. Codes may be negative. 0 means none: no code in
	// Meta's tables or in an answer seen is 0, and some errors have no code
	// (GraphBatchException).
	Code    int
	Subcode int

	// Class is what the error means for the sender, always one of [Classes].
	Class Class

	// Silent reports that an answer came without a Graph error, so that Status alone
	// decides the class: a proxy, a firewall or a gateway answered, or a part of
	// Facebook that fails.
	Silent bool

	// Type is Facebook's type of the error. Almost all are OAuthException. Others seen
	// are FacebookApiException, IGApiException, GraphBatchException and
	// GraphMethodException, the only one that matters: see [Explain].
	Type string

	// Transient is is_transient as sent. It is false where is_transient is absent, as
	// it mostly is.
	Transient bool

	// TraceID is fbtrace_id, by which Meta's support finds the call. Log it as
	// fbtrace_id.
	TraceID string

	// Param is the field of the request that Facebook found at fault, such as
	// message[attachment][payload], or [elements][0][title] of a template; empty if the
	// error names none. It consists of field names that this package knows, and so
	// contains nothing of a message.
	Param string

	// Usage is from the headers of the answer.
	Usage Usage

	// Err is the cause where there is no Graph error: the connection failed, the context
	// ended, the answer could not be read. It is nil otherwise.
	Err error
}

// Error returns class, meaning and numbers, in this order.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("sendapi: ")
	b.WriteString(string(e.Class))
	if m := e.meaning(); m != "" {
		b.WriteString(": ")
		b.WriteString(m)
	}
	if e.Err != nil {
		text, _ := describe(e.Err)
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

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Unreachable reports whether this process cannot reach Facebook, whatever the
// message was.
//
//	what happened                                              Status  Unreachable
//	no connection: name not resolved, refused, timed out, TLS
//	  handshake failed, proxy not reached or refused to connect     0  true
//	the proxy wants credentials (Silent)                          407  true
//	a gateway or Facebook failed without a Graph error (Silent);
//	  with 500, 502 and 504 the message is in doubt as well       5xx  true
//	any Graph error                                               any  false
//	any other answer                                              any  false
//	the answer to a transmitted request was lost (ClassInDoubt)     0  false
//	the caller canceled the call, or Send refused to make it        0  false
func (e *Error) Unreachable() bool {
	if e.Status != 0 {
		return e.Silent && (e.Status == http.StatusProxyAuthRequired || 500 <= e.Status && e.Status <= 599)
	}
	return e.Class == ClassTransient && e.Err != nil &&
		!errors.Is(e.Err, context.Canceled) && !errors.Is(e.Err, errNotCalled)
}

// AboutOne reports whether the refusal concerns one person only, so that any number of
// such refusals in a row says nothing about the page:
//
//   - the person cannot be reached;
//   - the window is closed;
//   - another app holds the conversation;
//   - a rule of the person's country forbids the message;
//   - the message refers to something of the person's that no longer exists or is
//     already done: a deleted message, an answered comment, an account linking token.
func (e *Error) AboutOne() bool {
	switch e.Class {
	case ClassRecipient, ClassWindow, ClassThread:
		return true
	case ClassMessage:
		row, ok := Explain(e.Code, e.Subcode, e.Type)
		return ok && row.aboutOne
	}
	return false
}

// meaning is what the table of codes says of the code, else what the table of statuses says.
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
		notes = append(notes, "fbtrace_id "+e.TraceID)
	}
	return notes
}
