package scenario

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"hongyan/cluster/client"
	"hongyan/cluster/relocate"
)

// moveAccounts is how many accounts move between regions, the loaded ones among them.
const moveAccounts = 500

// move adds a shard and has all accounts of the load's domain go to another region, to the new shard, and home again.
func (g *growth) move(ctx context.Context) error {
	domain, err := g.populate(ctx)
	if err != nil {
		return err
	}
	r := g.env.regions()
	number := uint32(0)
	for i, to := range []relocate.Order{{Home: r[1].Name}, {}, {Home: r[0].Name}} {
		what := "all accounts move to " + to.Home
		if to.Home == "" {
			what = "a shard is added in " + r[2].Name + ", and all accounts move to it"
		}
		err := g.step(ctx, fmt.Sprint(stepMove, i+1), what, false, func(ctx context.Context) (err error) {
			if to.Home == "" {
				if number, err = g.addShard(ctx, r[2].Name); err != nil {
					return err
				}
				to.Shard = number
			}
			to.Domain = domain
			return g.relocate(ctx, to)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// populate adds accounts beside those of the load until there are enough, and says their domain.
func (g *growth) populate(ctx context.Context) (domain string, err error) {
	a := g.fleet.target.Accounts[0]
	_, domain, _ = strings.Cut(a.Address, "@")
	var have struct {
		Accounts []string `json:"accounts"`
	}
	if err := g.admin(ctx, http.MethodGet, "/api/v1/accounts", nil, &have); err != nil {
		return "", err
	}
	hash, err := client.HashPassword(a.Password) // once: it is dear
	if err != nil {
		return "", err
	}
	for i := len(have.Accounts); i < moveAccounts; i++ {
		path := "/api/v1/accounts/" + url.PathEscape(fmt.Sprintf("moves%04d@%s", i, domain))
		if err := g.admin(ctx, http.MethodPut, path, map[string]string{"password_hash": hash}, nil); err != nil {
			return "", err
		}
	}
	return domain, nil
}

func (g *growth) addShard(ctx context.Context, home string) (number uint32, err error) {
	var made struct {
		Number uint32 `json:"number"`
	}
	if err := g.admin(ctx, http.MethodPost, "/api/v1/shards", map[string]string{"home": home}, &made); err != nil {
		return 0, err
	}
	return made.Number, g.await(ctx, func() error {
		st, err := g.moves(ctx)
		if err != nil {
			return err
		}
		for _, s := range st.Shards {
			if s.Number == made.Number && !s.Founding {
				return nil
			}
		}
		return fmt.Errorf("shard %d is not founded", made.Number)
	})
}

func (g *growth) moves(ctx context.Context) (*relocate.Status, error) {
	st := new(relocate.Status)
	return st, g.admin(ctx, http.MethodGet, "/api/v1/moves", nil, st)
}

// relocate has accounts move and waits until all have.
func (g *growth) relocate(ctx context.Context, o relocate.Order) error {
	var reply struct {
		Planned uint64 `json:"planned"`
	}
	if err := g.admin(ctx, http.MethodPost, "/api/v1/moves", o, &reply); err != nil {
		return err
	}
	g.accounts += reply.Planned
	return g.await(ctx, func() error {
		st, err := g.moves(ctx)
		if err != nil || st.Waiting == 0 {
			return err
		}
		return fmt.Errorf("%d accounts are still to move, the first: %+v", st.Waiting, st.Moves[0])
	})
}
