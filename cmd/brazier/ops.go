package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"
)

// ops answers the questions of orchestrators, on a listener of its own: /healthz, is the process alive, and /readyz, is
// the role open and its queue there. It opens first and closes last, so that it can say "not yet" and "not any more".
func (h *house) ops(f opsFlags) part {
	if f.OpsListen == "off" {
		return part{name: "ops"}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "alive") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		switch jobs := h.serving.Load(); {
		case jobs == nil:
			http.Error(w, "not open: starting or stopping", http.StatusServiceUnavailable)
		case !jobs.Connected():
			http.Error(w, "no connection to NATS", http.StatusServiceUnavailable)
		default:
			fmt.Fprintln(w, "ready")
		}
	})
	server := &http.Server{Handler: mux, ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second, IdleTimeout: time.Minute}
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
