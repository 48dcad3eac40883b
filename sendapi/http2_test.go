package sendapi

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// An HTTP/2 server may refuse a stream in ways after which net/http resends, one
// of which promises nothing. Nothing may be resent after the body has left.
func TestHTTP2RefusesStream(t *testing.T) {
	tests := []struct {
		name   string
		code   uint32
		goAway bool
	}{
		{name: "PROTOCOL_ERROR", code: 1},
		{name: "INTERNAL_ERROR", code: 2},
		{name: "REFUSED_STREAM", code: 7},
		{name: "GOAWAY", goAway: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			certs, _ := testServerTLS(t, true, func(http.ResponseWriter, *http.Request) {})
			var streams atomic.Int64
			url := rawServer(t, func(_ int, conn *net.TCPConn) {
				server := tls.Server(conn, &tls.Config{Certificates: certs.TLS.Certificates, NextProtos: []string{"h2"}})
				serveHTTP2(server, &streams, func(stream [4]byte) []byte {
					if tt.goAway {
						return goAway
					}
					return resetStream(stream, tt.code)
				})
			})
			client := testClient(t, strings.Replace(url, "http:", "https:", 1), nil)
			client.transport.TLSClientConfig = certs.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
			client.transport.TLSClientConfig.ServerName = "example.com"
			if e := sendFails(t, t.Context(), client); e.Class != ClassInDoubt {
				t.Errorf("got %v", e)
			}
			if n := streams.Load(); n != 1 {
				t.Errorf("sent %d times", n)
			}
		})
	}
}

// serveHTTP2 reads each request of a connection to its end and then writes the
// frame that refuse makes for its stream. It counts the requests.
func serveHTTP2(conn net.Conn, streams *atomic.Int64, refuse func(stream [4]byte) []byte) {
	const (
		data, settings = 0, 4
		endStream      = 1
		preface        = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	)
	defer conn.Close()
	if _, err := io.CopyN(io.Discard, conn, int64(len(preface))); err != nil {
		return
	}
	if _, err := conn.Write([]byte{0, 0, 0, settings, 0, 0, 0, 0, 0}); err != nil {
		return
	}
	for {
		var header [9]byte // length, type, flags, stream
		if _, err := io.ReadFull(conn, header[:]); err != nil {
			return
		}
		length := int64(header[0])<<16 | int64(header[1])<<8 | int64(header[2])
		if _, err := io.CopyN(io.Discard, conn, length); err != nil {
			return
		}
		if header[3] != data || header[4]&endStream == 0 {
			continue
		}
		streams.Add(1)
		if _, err := conn.Write(refuse([4]byte(header[5:]))); err != nil {
			return
		}
	}
}

// resetStream is RST_STREAM with an error code.
func resetStream(stream [4]byte, code uint32) []byte {
	frame := append([]byte{0, 0, 4, 3, 0}, stream[:]...)
	return binary.BigEndian.AppendUint32(frame, code)
}

// goAway is GOAWAY without an error, for every stream there ever was.
var goAway = append([]byte{0, 0, 8, 7, 0}, make([]byte, 4+8)...)
