package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
)

// ops answers the questions of orchestrators, Prometheus and engineers, on a listener of its own: /healthz, is the process
// alive; /readyz, is the role open and can it do its work; /metrics; and /debug/pprof/ if asked for. It opens
// first and closes last, so that it can say "not yet" and "not any more".
func (h *house) ops(f opsFlags) part {
	if f.OpsListen == "off" {
		return part{name: "ops"}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "alive") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := h.ready(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(h.metrics, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: opsTimeout}))
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
	return part{
		name: "ops",
		open: func(context.Context) error {
			listener, err := net.Listen("tcp", f.OpsListen)
			if err != nil {
				return usageError{fmt.Errorf("--ops-listen: %w: give this process another address, or off", err)}
			}
			h.log.Info("ops endpoints listen", zap.String("event", "ops"), zap.String("address", listener.Addr().String()))
			go func() {
				defer close(ended)
				_ = server.Serve(listener) // ends when it is closed
			}()
			return nil
		},
		close: func() error {
			err := server.Close()
			<-ended
			return err
		},
	}
}

const opsTimeout = 5 * time.Second

// readyTimeout is how long NATS may take to answer a probe. Kubernetes gives up after a second by default, to the same
// effect.
const readyTimeout = 2 * time.Second

// ready says what is missing for the role to do its work, nil if nothing is.
func (h *house) ready(ctx context.Context) error {
	if h.serving.Load() == nil {
		if opening := h.opening.Load(); opening != nil {
			if err := opening.Awaited(); err != nil {
				return fmt.Errorf("not open: %w", err)
			}
		}
		return errors.New("not open: starting or stopping")
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for _, ready := range h.readiness {
		if err := ready(ctx); err != nil {
			return err
		}
	}
	return nil
}
