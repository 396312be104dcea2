package config

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Error is one mistake in a configuration file.
type Error struct {
	File string
	Line int    // counted from one
	Key  string // such as listeners.smtp.address; empty when the file is not YAML at all
	Want string // what is wrong and what was expected
}

// Error names the place first, as compilers do.
func (e *Error) Error() string {
	if e.Key == "" {
		return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Want)
	}
	return fmt.Sprintf("%s:%d: %s: %s", e.File, e.Line, e.Key, e.Want)
}

func readAtMost(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("larger than %d bytes", limit)
	}
	return b, nil
}

// Parse reads what is in a node's file of that name. It works in three steps: the YAML tree is compared with the Go types key by key, then decoded, then the
// values are judged. Each step runs only when the one before found nothing, and reports all that it finds.
func Parse(file string, b []byte) (*Node, error) {
	n, _, err := parse(file, b)
	return n, err
}

// parse also gives the checker, which knows where each key stands.
func parse(file string, b []byte) (*Node, *checker, error) {
	tree, err := parser.ParseBytes(b, 0)
	if err != nil {
		return nil, nil, syntaxError(file, err)
	}
	var root ast.Node
	if len(tree.Docs) > 0 {
		root = tree.Docs[0].Body
	}
	if root == nil || len(tree.Docs) > 1 {
		return nil, nil, &Error{File: file, Line: 1, Want: "expected one YAML document with the keys of a node"}
	}
	c := checker{file: file, lines: map[string]int{}}
	c.shape(root, reflect.TypeFor[Node](), "")
	if len(c.found) > 0 {
		return nil, nil, errors.Join(c.found...)
	}
	var n Node
	if err := yaml.NodeToValue(root, &n, yaml.Strict()); err != nil {
		return nil, nil, syntaxError(file, err)
	}
	n.setDefaults()
	dir, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return nil, nil, fmt.Errorf("find the folder of configuration %s: %w", file, err)
	}
	for _, f := range n.files() {
		if *f.path != "" && !filepath.IsAbs(*f.path) {
			*f.path = filepath.Join(dir, *f.path)
		}
	}
	c.values(&n)
	if len(c.found) > 0 {
		return nil, nil, errors.Join(c.found...)
	}
	return &n, &c, nil
}

func syntaxError(file string, err error) error {
	e := &Error{File: file, Line: 1, Want: err.Error()}
	var y yaml.Error
	if errors.As(err, &y) {
		e.Want = y.GetMessage()
		if t := y.GetToken(); t != nil && t.Position != nil {
			e.Line = t.Position.Line
		}
	}
	return e
}

// checker collects mistakes and remembers on which line each key stands.
type checker struct {
	file  string
	lines map[string]int
	found []error
}

func (c *checker) fail(key, format string, args ...any) {
	c.found = append(c.found, &Error{File: c.file, Line: c.line(key), Key: key, Want: fmt.Sprintf(format, args...)})
}

// line is where the key stands, or for an absent key the nearest thing around it that is there.
func (c *checker) line(key string) int {
	for key != "" {
		if n, ok := c.lines[key]; ok {
			return n
		}
		key = key[:max(strings.LastIndexAny(key, ".["), 0)]
	}
	return 1
}

// shape compares a node of the tree with the type that it is going to fill.
func (c *checker) shape(n ast.Node, t reflect.Type, key string) {
	if key != "" {
		if _, ok := c.lines[key]; !ok {
			c.lines[key] = n.GetToken().Position.Line
		}
	}
	switch t.Kind() {
	case reflect.Pointer:
		c.shape(n, t.Elem(), key)
	case reflect.Struct:
		c.mapping(n, t, key)
	case reflect.Slice:
		list, ok := n.(*ast.SequenceNode)
		if !ok {
			c.fail(key, "expected a list, got %s", describe(n))
			return
		}
		if len(list.Values) == 0 && t.Elem().Kind() == reflect.String { // not the default either: allow: [] would open a listener
			c.fail(key, "expected at least one entry, got an empty list; leave the key out for its default")
		}
		for i, v := range list.Values {
			c.shape(v, t.Elem(), fmt.Sprintf("%s[%d]", key, i))
		}
	case reflect.String:
		switch n.(type) {
		case *ast.StringNode, *ast.LiteralNode:
		default:
			c.fail(key, "expected a string, got %s", describe(n))
		}
	case reflect.Bool:
		if _, ok := n.(*ast.BoolNode); !ok {
			c.fail(key, "expected true or false, got %s", describe(n))
		}
	default:
		c.integer(n, key)
	}
}

func (c *checker) integer(n ast.Node, key string) {
	i, ok := n.(*ast.IntegerNode)
	if !ok {
		c.fail(key, "expected a whole number, got %s", describe(n))
		return
	}
	v, err := strconv.ParseInt(fmt.Sprint(i.Value), 10, 64)
	switch {
	case err != nil:
		c.fail(key, "expected a whole number below 2^63, got %s", describe(n))
	case v == 0: // no key has a use for it, and in a Node it stands for one that is absent
		c.fail(key, "expected at least 1, got 0; leave the key out for its default")
	}
}

func (c *checker) mapping(n ast.Node, t reflect.Type, key string) {
	var pairs []*ast.MappingValueNode
	switch m := n.(type) {
	case *ast.MappingNode:
		pairs = m.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{m}
	default:
		c.fail(key, "expected keys and values (%s), got %s", strings.Join(keysOf(t), ", "), describe(n))
		return
	}
	for _, p := range pairs {
		name := p.Key.GetToken().Value
		child := name
		if key != "" {
			child = key + "." + name
		}
		_, twice := c.lines[child]
		c.lines[child] = p.Key.GetToken().Position.Line
		i := slices.Index(keysOf(t), name)
		switch {
		case twice:
			c.fail(child, "stands here a second time; expected each key once")
		case i < 0:
			c.fail(child, "unknown key; expected one of %s", strings.Join(keysOf(t), ", "))
		case p.Value == nil || p.Value.Type() == ast.NullType:
			c.fail(child, "expected a value, got nothing")
		default:
			c.shape(p.Value, t.Field(i).Type, child)
		}
	}
}

// keysOf lists the keys of a struct in the order of its fields. Fields without one come last.
func keysOf(t reflect.Type) []string {
	var keys []string
	for i := range t.NumField() {
		if key, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ","); key != "-" {
			keys = append(keys, key)
		}
	}
	return keys
}

// describe names what stands in the file, cut short.
func describe(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "keys and values"
	case *ast.SequenceNode:
		return "a list"
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.MergeKeyNode:
		return "an anchor, alias or tag, which are not used here"
	}
	s := n.String()
	if len(s) > 40 {
		s = s[:40] + "…"
	}
	return strconv.Quote(s)
}
