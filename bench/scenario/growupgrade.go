package scenario

import (
	"context"
	"fmt"
	"net/http"
	"os"

	"hongyan/cluster/feature"
	"hongyan/cluster/upgrade"
)

// stepUpgrade restarts every node, one after the other: with this program if they began with an older one (--old), else with the same.
const stepUpgrade = "upgrade"

// upgrade is that step. It ends when the cluster is at the feature level that this program brings.
func (g *growth) upgrade(ctx context.Context) error {
	what, start := "every node starts again, one by one", g.env.Lab.Start
	if old := g.env.Options.Old; old != "" {
		program, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find own program: %w", err)
		}
		what, start = "every node is updated, one by one", func(id string) error { return g.env.Lab.StartWith(id, program) }
	}
	return g.step(ctx, stepUpgrade, what, false, func(ctx context.Context) error {
		before := g.level(ctx)
		for _, id := range g.env.nodes() {
			if now := g.level(ctx); g.env.Options.Old != "" && now > before {
				return fmt.Errorf("the feature level is %v, and %s still runs the older program", now, id)
			}
			if err := g.renew(ctx, id, start); err != nil {
				return err
			}
		}
		if err := g.await(ctx, func() error { return g.levelled(ctx) }); err != nil {
			return err
		}
		g.section.Notes = append(g.section.Notes, fmt.Sprintf("Every node has started again; the cluster is at feature level %v.", feature.Newest()))
		return g.await(ctx, func() error { return g.settled(ctx) })
	})
}

// renew stops a node in good order and starts it again.
func (g *growth) renew(ctx context.Context, id string, start func(string) error) error {
	g.fleet.leave(id)
	if err := g.env.Lab.Stop(id); err != nil {
		return err
	}
	if err := start(id); err != nil {
		return err
	}
	return g.readmit(ctx, id)
}

// level is the cluster's feature level, the first one as long as no node knows such a question.
func (g *growth) level(ctx context.Context) feature.Level {
	s, err := g.levels(ctx)
	if err != nil {
		return feature.Base
	}
	return s.Level
}

func (g *growth) levels(ctx context.Context) (*upgrade.Status, error) {
	s := new(upgrade.Status)
	err := g.admin(ctx, http.MethodGet, "/api/v1/upgrade", nil, s)
	return s, err
}

// levelled is nil when the cluster is at the newest level.
func (g *growth) levelled(ctx context.Context) error {
	s, err := g.levels(ctx)
	if err != nil {
		return err
	}
	if s.Level < feature.Newest() {
		return fmt.Errorf("the feature level is %s, and waits: %q", s.Name, s.Waits)
	}
	return nil
}
