package process

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/cmd/brazier/pagefile"
	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi/webhook"
	"github.com/brazier-relay/brazier/worker/braze"
	"github.com/brazier-relay/brazier/worker/capture"
)

// roadBack is the way from webhooks to Braze in a worker: it captures events, and sends updates. A worker whose
// page file has no apps has none.
type roadBack struct {
	p       *Process
	log     *zap.Logger
	handler *capture.Handler
	secrets []*secrets // that are followed now

	mu         sync.Mutex
	workspaces []*pagefile.Workspace
	changed    chan struct{} // has one element when workspaces are others
}

// openRoadBack returns nil where the webhooks of no page are taken.
func (p *Process) openRoadBack(log *zap.Logger) (*roadBack, error) {
	if !p.queueConfig.RoadBack {
		return nil, nil
	}
	r := &roadBack{p: p, log: log, changed: make(chan struct{}, 1)}
	pages, followed := r.capturePages(p.pages)
	var err error
	if r.handler, err = capture.New(capture.Config{Queue: p.jobs, Pages: pages, Log: log}); err != nil {
		return nil, err
	}
	if err := p.metrics.Register(r.handler); err != nil {
		return nil, fmt.Errorf("metrics of captured events: %w", err)
	}
	r.secrets, r.workspaces = followed, pagefile.Workspaces(p.pages)
	return r, nil
}

// errNewRoadBack says that a page file cannot be taken while the process runs.
var errNewRoadBack = errors.New("apps and braze are new in the page file: restart the process, which then makes the streams that they need")

// set makes these the pages. On a nil roadBack it refuses pages whose webhooks are taken.
func (r *roadBack) set(pages []pagefile.Page) error {
	if r == nil {
		if pagefile.HasRoadBack(pages) {
			return errNewRoadBack
		}
		return nil
	}
	captured, followed := r.capturePages(pages)
	if err := r.handler.SetPages(captured); err != nil {
		releaseAll(followed)
		return err
	}
	releaseAll(r.secrets)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.secrets = followed
	if before := r.workspaces; !sameWorkspaces(before, pagefile.Workspaces(pages)) {
		r.workspaces = pagefile.Workspaces(pages)
		select {
		case r.changed <- struct{}{}:
		default:
		}
	}
	return nil
}

// sameWorkspaces reports whether updates are sent to the same places by the same keys.
func sameWorkspaces(a, b []*pagefile.Workspace) bool {
	return slices.EqualFunc(a, b, func(x, y *pagefile.Workspace) bool {
		return x.Name == y.Name && x.URL == y.URL && x.KeyFile == y.KeyFile && x.RepeatEvents == y.RepeatEvents
	})
}

// capturePages are the pages as capture knows them, and the secrets that they follow.
func (r *roadBack) capturePages(pages []pagefile.Page) (captured []capture.Page, followed []*secrets) {
	for _, p := range pages {
		if p.Braze == nil {
			continue
		}
		s := r.p.files.secrets("ref_secret_files", p.References.SecretFiles)
		followed = append(followed, s)
		captured = append(captured, capture.Page{ID: p.ID, Name: p.Name, Workspace: p.Braze.Name, Reusable: p.References.Reusable, Aliases: p.Aliases, Attributes: p.Attributes, Events: p.Braze.Events,
			References: func() (webhook.RefPolicy, error) {
				known, err := s.current()
				return webhook.RefPolicy{Secrets: known, MaxAge: p.References.MaxAge, AllowEndless: p.References.Endless}, err
			}})
	}
	freshSecrets(followed)
	return captured, followed
}

// run captures and sends until ctx ends. On a nil roadBack it does nothing.
func (r *roadBack) run(ctx context.Context) error {
	if r == nil {
		return nil
	}
	var running sync.WaitGroup
	defer running.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var capturing error
	running.Go(func() {
		defer stop()
		capturing = r.handler.Run(ctx)
	})
	for ctx.Err() == nil {
		if err := r.send(ctx); err != nil {
			return err
		}
	}
	running.Wait()
	return capturing
}

// send sends updates until the workspaces are others or ctx ends.
func (r *roadBack) send(ctx context.Context) error {
	r.mu.Lock()
	known := r.workspaces
	r.mu.Unlock()
	var workspaces []braze.Workspace
	for _, w := range known {
		key := r.p.files.secrets("key_file", []string{w.KeyFile})
		defer key.release()
		freshSecrets([]*secrets{key})
		client, err := braze.New(braze.Config{URL: w.URL, Key: key.one, UserAgent: "brazier/" + cli.Version(), RepeatEvents: w.RepeatEvents, CreateAliases: true, // no other id makes a profile
			AllowPlainHTTP: r.p.brazeInsecure})
		if err != nil {
			return cli.Usage(fmt.Errorf("page file: Braze workspace %s: %w", w.Name, err))
		}
		defer client.Close()
		workspaces = append(workspaces, braze.Workspace{Name: w.Name, Client: client})
	}
	sender, err := braze.NewSender(braze.SenderConfig{Queue: r.p.jobs, Workspaces: workspaces, Resolve: r.resolve, Log: r.log})
	if err != nil {
		return err
	}
	if err := r.p.metrics.Register(sender); err != nil {
		return fmt.Errorf("metrics of updates: %w", err)
	}
	defer r.p.metrics.Unregister(sender)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() {
		defer stop()
		select {
		case <-r.changed:
		case <-ctx.Done():
		}
	})
	err = sender.Run(ctx) // returns at once where there is no workspace
	<-ctx.Done()
	return err
}

// resolve puts into Braze's terms what an update stands for.
func (r *roadBack) resolve(ctx context.Context, job *queue.Delivery) ([]braze.Object, error) {
	changes, err := r.handler.Resolve(ctx, job)
	if errors.Is(err, capture.ErrUnreadable) {
		return nil, fmt.Errorf("%w: %w", braze.ErrUnreadable, err)
	}
	if err != nil {
		return nil, err
	}
	objects := make([]braze.Object, len(changes))
	for i, c := range changes {
		objects[i] = braze.Object{User: braze.UserID{BrazeID: c.User.BrazeID, ExternalID: c.User.ExternalID}, Attributes: c.Attributes}
		if c.Event != nil {
			objects[i].Event = &braze.Event{Name: c.Event.Name, Time: c.Event.Time, Properties: c.Event.Properties}
		}
		if c.User.Alias != "" {
			objects[i].User.Alias = braze.Alias{Name: c.User.Alias, Label: capture.AliasLabel}
		}
	}
	return objects, nil
}
