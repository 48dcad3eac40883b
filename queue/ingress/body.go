package ingress

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"
)

// body reads the body of a request. The memory for it grows with the bytes that arrive, not with Content-Length. What a
// body takes beyond smallBody is reserved and added to reserved; the caller releases it.
func (l *limits) body(w http.ResponseWriter, r *http.Request, reserved *int64) ([]byte, *refusal) {
	limited := http.MaxBytesReader(w, r.Body, l.maxBody)
	most := l.maxBody + 1 // one byte more shows that the body is too large
	switch n := r.ContentLength; {
	case n > l.maxBody:
		return nil, l.bodyRefusal(new(http.MaxBytesError))
	case n >= 0:
		most = n
	}
	body := make([]byte, 0, min(most, smallBody))
	for int64(len(body)) < most {
		if len(body) == cap(body) {
			size := min(2*int64(cap(body)), most)
			more := size - int64(cap(body))
			if !l.acquireBytes(more) {
				return nil, overloaded()
			}
			*reserved += more
			body = append(make([]byte, 0, size), body...)
		}
		n, err := limited.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if err == io.EOF && r.ContentLength < 0 {
			return body, nil
		}
		if err != nil && int64(len(body)) < most {
			return nil, l.bodyRefusal(err)
		}
	}
	if int64(len(body)) > l.maxBody {
		return nil, l.bodyRefusal(new(http.MaxBytesError))
	}
	return body, nil
}

// bodyRefusal makes a refusal of an error from reading a body.
func (l *limits) bodyRefusal(err error) *refusal {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return &refusal{status: http.StatusRequestEntityTooLarge, reason: reasonTooLarge,
			text: "the body is over the limit of " + strconv.FormatInt(l.maxBody, 10) + " bytes: shorten the message"}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &refusal{status: http.StatusRequestTimeout, reason: reasonSlow, text: "the body did not arrive in time: send it again"}
	default:
		return &refusal{status: http.StatusBadRequest, reason: reasonCutOff, text: "the body ended early: send as many bytes as Content-Length announces"}
	}
}

// Most refusals do not depend on the body, and are decided before the body has arrived. In HTTP/1, net/http then reads up
// to 256 KiB of the body before it sends the answer, for as long as Config.BodyTimeout allows, so that the connection can
// be reused. An unauthenticated caller could occupy a connection for that long, and an honest caller would wait that long
// for the reason of its refusal. So an incomplete body is not waited for:
//
//	body complete within bodyGrace      the connection is kept
//	otherwise                           the answer has Connection: close, so net/http sends it at once; the rest of the
//	                                    body is discarded for up to discardTimeout, while the client reads the answer
//
// HTTP/2 needs none of this: net/http sends the answer, resets the stream without an error, and keeps the connection.
// Connection: close would end the connection for the other streams too.
const (
	// bodyGrace is how long a refusal waits for the rest of its body. A body that was sent together with the headers arrives
	// within it. Without it a template with a wrong key would cost a new connection, and a TLS handshake, for each message.
	bodyGrace = 5 * time.Millisecond
	// maxFinish is how many bytes of a refused body are read at most to keep its connection. To read a longer body costs more
	// than a new connection.
	maxFinish = 256 << 10
	// discardTimeout is how long the rest of a body is discarded after an answer with Connection: close. The system resets a
	// connection that is closed with unread bytes, and a reset may destroy the answer before the client has read it: the
	// timeout must be longer than an answer travels, 0.3 s at most. It is also how long a refused caller can occupy a
	// connection.
	discardTimeout = time.Second
)

// mustClose reports whether the connection of a refused request has to be closed, and says so in the answer. whole says that
// the body was read to its end.
func mustClose(w http.ResponseWriter, r *http.Request, whole bool) bool {
	closing := r.ProtoMajor == 1 && !whole && !finishBody(w, r)
	if closing {
		w.Header().Set("Connection", "close")
	}
	return closing
}

// finishBody reads the body of a refused request as far as it arrives within bodyGrace, and reports whether that was all. It must
// not be called once the body was read to its end: net/http then reads on, to see whether the client leaves, and the deadline
// would end the context of the connection, and so fail the connection's next requests.
func finishBody(w http.ResponseWriter, r *http.Request) (complete bool) {
	switch {
	case r.ContentLength == 0:
		return true
	case r.Header.Get("Expect") != "":
		return false // a read would ask the client for the body
	}
	control := http.NewResponseController(w)
	if control.SetReadDeadline(time.Now().Add(bodyGrace)) != nil {
		return false // a read might wait without end
	}
	if _, err := io.CopyN(io.Discard, r.Body, maxFinish); err != io.EOF {
		return false
	}
	_ = control.SetReadDeadline(time.Time{}) // where a body over the limit was read to its end before
	return true
}

// discardBody sends the answer and discards the rest of the body. It returns when the body has ended, the client has closed
// the connection, or discardTimeout is over. Then net/http closes the connection.
func discardBody(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	if control.Flush() != nil || control.SetReadDeadline(time.Now().Add(discardTimeout)) != nil {
		return
	}
	_, _ = io.Copy(io.Discard, r.Body) // however it ends, the connection is closed
}
