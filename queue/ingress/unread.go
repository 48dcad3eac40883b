package ingress

import (
	"io"
	"net/http"
	"time"
)

// Most refusals do not depend on the body, and the body may not have arrived when they are given. In HTTP/1, net/http
// then reads up to 256 KiB of it before it sends the answer, for as long as Config.BodyTimeout allows, so that the
// connection can be used again. A caller without a key would hold a connection that long, and an honest one would wait
// that long for its reason. So a body that is not complete is not waited for: the answer says Connection: close, which
// makes net/http send it at once, and the rest of the body is discarded for a moment while the client reads the answer.
//
// HTTP/2 needs none of this: the server sends the answer, resets the stream without an error, and keeps the connection.
// Connection: close would end the connection for the other streams too.
const (
	// bodyGrace is how long a refusal waits for a body to be complete. What was sent together with the headers is there by
	// then, and the connection is kept. Without it a template with a wrong key would cost a new connection, and a TLS
	// handshake, for each message.
	bodyGrace = 5 * time.Millisecond
	// maxFinish is up to how many bytes of a refused body are read for that, in bytes. A longer one costs more than a
	// new connection does.
	maxFinish = 256 << 10
	// discardTimeout is how long bytes are discarded after such an answer. A connection that is closed with unread bytes is
	// reset, and a reset may destroy the answer before the client has read it: this has to be longer than the answer takes
	// to a client far away, 0.3 s, and is as long as a refused caller can hold its connection.
	discardTimeout = time.Second
)

// finishBody reads what has arrived of a refused request's body, and reports whether that was all of it.
func finishBody(w http.ResponseWriter, r *http.Request) (complete bool) {
	switch {
	case r.ContentLength == 0:
		return true
	case r.Header.Get("Expect") != "":
		return false // a read would ask the client for the body
	}
	if http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyGrace)) != nil {
		return false // a read might wait without end
	}
	_, err := io.CopyN(io.Discard, r.Body, maxFinish)
	return err == io.EOF
}

// discardBody sends the answer, and then discards what still arrives of the body. It returns when the client has sent all
// of it or closed the connection, and after discardTimeout in any case. Then net/http closes the connection.
func discardBody(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	if control.Flush() != nil || control.SetReadDeadline(time.Now().Add(discardTimeout)) != nil {
		return
	}
	_, _ = io.Copy(io.Discard, r.Body) // however it ends, the connection is closed
}
