package sendapi

import (
	"context"
	"io"
	"net"
	"net/http/httptrace"
	"sync"
)

// A roundTrip is one HTTP request, and the reader of its body. It knows whether the
// message may have reached Facebook: only if the transport has asked for the body,
// whatever became of the header. The text of an error decides nothing.
//
// net/http writes the header before it asks for a body of a type that it does not
// know, so it notices a connection that cannot be written to before it reads the body.
// If a later version asks earlier, more calls will be in doubt, and none wrongly
// certain.
//
// net/http also resends some requests by itself. As of Go 1.26 (transport.go,
// shouldRetryRequest and rewindBody; h2_bundle.go, http2shouldRetryRequest) it
// repeats a POST
//
//   - over HTTP/1.1, on a reused connection that failed before it took a byte, if
//     the request has a GetBody. With an Idempotency-Key header it does so after
//     bytes were written as well;
//   - over HTTP/2, if the server refused the stream (REFUSED_STREAM, or GOAWAY
//     with a lower stream), and also after PROTOCOL_ERROR, which promises nothing
//     about whether the request was carried out. Both need a GetBody once the body
//     was read;
//   - over both, on a connection found unusable before the body was read.
//
// So a request here has no GetBody and no such header, which leaves only the last
// case, and Client.Send repeats what is safe to repeat. The price: a call that HTTP/2
// refused after its body was read is in doubt, although the server promises that it
// did not process the call.
type roundTrip struct {
	reused bool // the connection; set by the goroutine that calls RoundTrip

	mu   sync.Mutex // a transport may read the body after RoundTrip has returned
	body []byte     // what is left to read
	read bool       // reading has begun
	over bool       // no more reading
}

// Read gives the transport the next part of the body.
func (t *roundTrip) Read(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return 0, net.ErrClosed
	}
	t.read = true
	if len(t.body) == 0 {
		return 0, io.EOF
	}
	n := copy(p, t.body)
	t.body = t.body[n:]
	return n, nil
}

// Close does nothing: the body is the caller's memory.
func (t *roundTrip) Close() error { return nil }

// end stops the reading of the body for good, so that nothing more of it is transmitted
// and the caller may reuse its memory. It reports whether anything may have been
// transmitted.
func (t *roundTrip) end() (left bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
	return t.read
}

// trace records whether the transport takes a connection from its pool.
func (t *roundTrip) trace(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { t.reused = info.Reused },
	})
}
