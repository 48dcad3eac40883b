package main

import (
	"bufio"
	"io"
	"net"
	"regexp"
	"sync/atomic"
	"testing"
	"time"
)

// shift is a proxy before a NATS server. While it is on, the server seems to have a clock that is an hour ahead: the time in each answer
// about a stream is another. Its length stays, so that the protocol's counts do too.
type shift struct {
	server string
	on     atomic.Bool
}

func startShift(t *testing.T, server string) (s *shift, url string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	s = &shift{server: server}
	go s.serve(listener)
	return s, "nats://" + listener.Addr().String()
}

// serve forwards connections until the listener is closed.
func (s *shift) serve(l net.Listener) {
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", s.server)
		if err != nil {
			client.Close()
			continue
		}
		go func() {
			_, _ = io.Copy(server, client)
			server.Close()
		}()
		go func() {
			s.forward(client, server)
			client.Close()
		}()
	}
}

var serverTime = regexp.MustCompile(`"ts":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d`)

func (s *shift) forward(client io.Writer, server io.Reader) {
	from := bufio.NewReaderSize(server, 1<<20)
	for {
		line, err := from.ReadSlice('\n') // JSON has no line breaks of its own
		if s.on.Load() {
			line = serverTime.ReplaceAllFunc(line, func(found []byte) []byte {
				const layout = `"ts":"2006-01-02T15:04:05`
				at, _ := time.Parse(layout, string(found))
				return []byte(at.Add(time.Hour).Format(layout))
			})
		}
		if _, failed := client.Write(line); failed != nil || err != nil && err != bufio.ErrBufferFull {
			return
		}
	}
}

// The clock of the NATS server is an hour ahead of the roles'.
func drillClock(d *drill) {
	page := d.acme()
	file := writePages(d.t, page)
	nodes, _ := d.nats(1)
	proxy, url := startShift(d.t, nodes[0].address)
	flags := []string{"--nats-url=nats://" + nodes[0].address, "--pages=" + file}
	d.role("worker", "--graph-url="+d.facebook(file), "--nats-url="+url, "--pages="+file)
	d.role("ingress", "--listen=127.0.0.1:0", "--nats-url="+url, "--pages="+file)
	d.quiet(flags...)
	proxy.on.Store(true)
	d.lines()
	d.status("", flags...)
	d.mended()
	proxy.on.Store(false)
	d.over()
}
