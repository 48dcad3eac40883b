package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
)

// ops answers the questions of orchestrators, Prometheus and engineers, on a listener of its own: /healthz, is the process
// alive; /readyz, is the role open and can it do its work; /readyz/webhooks, likewise for webhooks; /metrics; and /debug/pprof/ if asked for. It opens
// first and closes last, so that it can say "not yet" and "not any more".
func (p *Process) ops(f OpsFlags) Part {
	if f.OpsListen == off {
		return Part{Name: "ops"}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "alive") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := p.ready(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	// Of its own, since a process that can take no webhooks can still take messages, or deliver them.
	mux.HandleFunc("GET /readyz/webhooks", func(w http.ResponseWriter, r *http.Request) {
		if !p.queueConfig.RoadBack {
			http.Error(w, "the page file has no page with braze", http.StatusNotFound)
			return
		}
		if err := p.readyForWebhooks(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(p.metrics, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: opsTimeout}))
	if f.Pprof {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	// pprof lengthens the time to write by the seconds that it is asked for.
	server := &http.Server{Handler: mux, ReadTimeout: opsTimeout, WriteTimeout: 2 * opsTimeout, IdleTimeout: time.Minute}
	ended := make(chan struct{})
	return Part{
		Name: "ops",
		Open: func(context.Context) error {
			listener, err := net.Listen("tcp", f.OpsListen)
			if err != nil {
				return cli.Usagef("--ops-listen: %w: give this process another address, or off", err)
			}
			p.log.Info("ops endpoints listen", zap.String("event", "ops"), zap.String("address", listener.Addr().String()))
			go func() {
				defer close(ended)
				_ = server.Serve(listener) // ends when it is closed
			}()
			return nil
		},
		Close: func() error {
			err := server.Close()
			<-ended
			return err
		},
	}
}

const opsTimeout = 5 * time.Second

// readyTimeout is how long NATS may take to answer a probe. Kubernetes abandons the probe after a second by default, to the same
// effect.
const readyTimeout = 2 * time.Second

// readyForWebhooks says what is missing for events of webhooks to be stored, nil if nothing is.
func (p *Process) readyForWebhooks(ctx context.Context) error {
	jobs := p.serving.Load()
	if jobs == nil {
		return errors.New("not open: starting or stopping")
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	return jobs.ReadyForEvents(ctx)
}

// ready says what is missing for the role to do its work, nil if nothing is.
func (p *Process) ready(ctx context.Context) error {
	if p.serving.Load() == nil {
		if opening := p.opening.Load(); opening != nil {
			if err := opening.WaitingFor(); err != nil {
				return fmt.Errorf("not open: %w", err)
			}
		}
		return errors.New("not open: starting or stopping")
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for _, ready := range p.readiness {
		if err := ready(ctx); err != nil {
			return err
		}
	}
	return nil
}
