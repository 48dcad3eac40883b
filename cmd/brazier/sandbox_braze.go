package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	brazesandbox "github.com/brazier-relay/brazier/worker/braze/sandbox"
)

// off leaves a listener out.
const off = "off"

// simulatedBraze is a simulated Braze with its listeners. The methods of nil do nothing.
type simulatedBraze struct {
	sandbox      *brazesandbox.Sandbox
	servers      []*http.Server
	serving      sync.WaitGroup
	api, control string // URLs; control is empty where there is no control API
}

// openBraze starts the simulated Braze. It returns nil where it is off.
func (c sandboxCommand) openBraze(keys []string) (*simulatedBraze, error) {
	if c.BrazeListen == off {
		return nil, nil
	}
	s, err := brazesandbox.New(brazesandbox.Config{Keys: keys, Latency: c.Latency, Jitter: c.Jitter, Seed: c.Seed})
	if err != nil {
		return nil, err
	}
	b := &simulatedBraze{sandbox: s}
	if b.api, err = b.serve(c.BrazeListen, c.Remote, s.API()); err != nil {
		return nil, errors.Join(&cli.FlagError{Flag: "--braze-listen", Fault: err.Error()}, b.close())
	}
	if c.BrazeControl == off {
		return b, nil
	}
	if b.control, err = b.serve(c.BrazeControl, c.Remote, s.Control()); err != nil {
		return nil, errors.Join(&cli.FlagError{Flag: "--braze-control-listen", Fault: err.Error()}, b.close())
	}
	return b, nil
}

// serve listens on an address and returns its URL.
func (b *simulatedBraze) serve(address string, remote bool, h http.Handler) (string, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("must be HOST:PORT or off (got %q)", address)
	}
	if ip := net.ParseIP(host); !remote && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return "", fmt.Errorf("must be a loopback address (got %q): other machines can reach it, and the simulated Braze writes to no workspace; to allow that, set --allow-remote", address)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return "", fmt.Errorf("%w: choose another, or off", err)
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	b.servers = append(b.servers, server)
	b.serving.Go(func() { _ = server.Serve(listener) }) // it ends at close; if the listener fails, callers see refused connections
	return "http://" + listener.Addr().String(), nil
}

func (b *simulatedBraze) banner() string {
	if b == nil {
		return ""
	}
	text := fmt.Sprintf("\n  SIMULATED BRAZE. What is written here reaches no workspace.\n\n  Braze API      %s  (make it the url of a workspace in the page file)\n", b.api)
	if b.control != "" {
		text += fmt.Sprintf("  Braze control  %s/control/  (open it for help)\n", b.control)
	}
	return text
}

func (b *simulatedBraze) help() string {
	if b == nil || b.control == "" {
		return ""
	}
	return "\n" + strings.ReplaceAll(brazesandbox.Help, "CONTROL", b.control)
}

// close cuts all connections and waits until no listener is served.
func (b *simulatedBraze) close() error {
	if b == nil {
		return nil
	}
	b.sandbox.Close()
	var failed []error
	for _, s := range b.servers {
		failed = append(failed, s.Close())
	}
	b.serving.Wait()
	return errors.Join(failed...)
}
