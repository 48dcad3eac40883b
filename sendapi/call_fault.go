package sendapi

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/url"
	"strconv"
	"syscall"
)

// A callFault is an error that this package makes itself; its text is fixed.
type callFault string

func (f callFault) Error() string { return string(f) }

const (
	errNotJSON    callFault = "the answer is not a JSON object"
	errNoError    callFault = "the answer contains no error"
	errBoth       callFault = "the answer contains both a message id and an error"
	errTooLong    callFault = "the answer is too long"
	errNotObject  callFault = "the body is not a JSON object"
	errToken      callFault = "the token is empty or contains a space or control character"
	errNotCalled  callFault = "the caller's context ended before the call"
	errConnection callFault = "the connection failed"
)

// proxyRefusal is the HTTP status with which a proxy refused to connect (CONNECT).
type proxyRefusal int

func (r proxyRefusal) Error() string { return "the proxy answered " + strconv.Itoa(int(r)) }

// describe returns a fixed text for err, chosen by the type of err, since some errors
// of net/http quote what the peer sent. It reports false for an error of a type whose
// own text may hold something of the peer's.
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

// safeCause returns err itself if its text contains nothing that the peer sent, and a
// callFault otherwise. It unwraps a url.Error, whose URL contains the appsecret_proof.
func safeCause(err error) error {
	for u := (*url.Error)(nil); errors.As(err, &u); {
		err = u.Err
	}
	if text, known := describe(err); !known {
		return callFault(text)
	}
	return err
}
