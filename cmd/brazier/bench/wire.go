package bench

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// maxMessages is the most messages of one run: the sandbox remembers as many calls.
const maxMessages = 1_000_000

// digits is the width of a message's number in ids.
const digits = 7

// runID tells the messages of one run from those of others.
type runID string

func newRunID() runID {
	var b [8]byte
	rand.Read(b[:]) // never fails, see its documentation
	for i := range b {
		b[i] = '0' + b[i]%10
	}
	return runID(b[:])
}

// recipient is how the PSIDs of the run begin. The number of the message follows.
func (r runID) recipient() string { return "5" + string(r) }

// request is the request of one page, as Braze's Messenger template and the headers of the README make it. All that
// changes from message to message is the number, and its width does not.
type request struct {
	parts [][]byte // the number of the message goes between them
	run   runID
	bytes int // of the body
}

// brazeID is how the users of all runs begin. With the run and the number they have the form of a braze_id, 24 hexadecimal digits.
const brazeID = "5f3c1f540"

func newRequest(target *url.URL, key string, run runID) *request {
	const number = "\x00"
	body := `{
  "recipient": {"id": "` + run.recipient() + number + `"},
  "messaging_type": "UPDATE",
  "message": {"text": "Hi Alexandra, your order ` + number + ` has shipped and should be with you on Tuesday between 9 and 12. Track it at https://example.com/orders/` + number + `. Reply STOP if you would rather not get these messages."}
}`
	size := len(body) + strings.Count(body, number)*(digits-len(number))
	head := []string{
		"POST " + strings.TrimRight(target.EscapedPath(), "/") + "/v25.0/me/messages HTTP/1.1",
		"Host: " + target.Host,
		"User-Agent: brazier-bench",
		"Content-Type: application/json",
		"Authorization: Bearer " + key,
		"X-Brazier-Campaign: 5f3c1f54-7d0c-4a37-9d53-0b6f5a2d1c11",
		"X-Brazier-Dispatch: bench" + string(run),
		"X-Brazier-Message: 0d6f2a5e-93a1-4f0e-8c55-6a8a1be03c77",
		"X-Brazier-User: " + brazeID + string(run) + number,
		"Content-Length: " + strconv.Itoa(size),
	}
	text := strings.Join(head, "\r\n") + "\r\n\r\n" + body
	return &request{parts: bytes.Split([]byte(text), []byte(number)), run: run, bytes: size}
}

// append appends the request of message n.
func (r *request) append(b []byte, n int64) []byte {
	for i, part := range r.parts {
		if i > 0 {
			at := len(b)
			b = append(b, "0000000"...)
			for v, j := n, at+digits-1; v > 0; v, j = v/10, j-1 {
				b[j] = byte('0' + v%10)
			}
		}
		b = append(b, part...)
	}
	return b
}

// answer is a response. Its body is good until the next one is read.
type answer struct {
	status int
	body   []byte
	closes bool // the server closes the connection
}

// readAnswer reads what an ingress answers with: HTTP/1.1 with a Content-Length, and short.
func readAnswer(r *bufio.Reader) (a answer, err error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return a, err
	}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.")) {
		return a, errors.New("the answer is not HTTP/1")
	}
	if a.status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return a, errors.New("the answer has no status")
	}
	length := -1
	for {
		if line, err = r.ReadSlice('\n'); err != nil {
			return a, err
		}
		name, value, _ := bytes.Cut(bytes.TrimSpace(line), []byte(":"))
		switch {
		case len(name) == 0:
			if length < 0 || length > r.Size() {
				return a, fmt.Errorf("the answer %d has no Content-Length up to %d", a.status, r.Size())
			}
			if a.body, err = r.Peek(length); err == nil {
				_, err = r.Discard(length)
			}
			return a, err
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return a, errors.New("the answer has no Content-Length")
			}
		case bytes.EqualFold(name, []byte("Connection")):
			a.closes = bytes.EqualFold(bytes.TrimSpace(value), []byte("close"))
		}
	}
}
