package ingress_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue/ingress"
)

// A caller that sends requests and never reads an answer is cut off, and holds no permit meanwhile.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	h := openOn(t, ingress.Config{BodyTimeout: 300 * time.Millisecond, Wait: time.Second, AnswerTimeout: 100 * time.Millisecond}, fresh(t))
	// A small window, set before the connection is made, is soon full.
	dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 2048) })
	}}
	conn, err := dialer.Dial("tcp", h.server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(within))
	request := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: brazier.example\r\nAuthorization: Bearer %s\r\nContent-Length: 2\r\n\r\n{}", messages, acmeKey)
	for batch := strings.Repeat(request, 100); ; {
		if _, err := io.WriteString(conn, batch); err != nil { // the buffers in between are full, and then the server closes the connection
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the connection is still open")
			}
			break
		}
	}
	h.gauge("waiting_requests", 0)
	h.gauge("waiting_bytes", 0)
}
