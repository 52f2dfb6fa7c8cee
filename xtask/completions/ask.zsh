# What zsh offers for a line. Arguments: the folder of the script `_galaxy-push`, the line. Called by xtask/src/completions.rs.
# Only an interactive zsh completes, so one is started at a terminal of its own, and its Tab key is pressed.
zmodload zsh/zpty || exit 1
offered=$1/offered.zsh
: > $offered
zpty inner zsh -f -i
zpty -w inner "fpath=(${(q)1} \$fpath); autoload -Uz compinit; compinit -u -D; OFFERED=${(q)offered}"
# Every candidate goes through compadd; with -O, -A or -D it only fills an array.
zpty -w inner 'compadd() {
  if [[ ${@[1,(i)(-|--)]} != *-(O|A|D)\ * ]]; then
    local -a found
    builtin compadd -A found "$@"
    (( $#found )) && print -rl -- $found >> $OFFERED
  fi
  builtin compadd "$@"
}'
zpty -w inner 'say-done() { print -r -- ":do""ne:" }; zle -N say-done; bindkey "^X" say-done; bindkey "^I" complete-word'
zpty -w -n inner "$2"$'\t'$'\x18'
zpty -r inner screen '*:done:*' || exit 1
zpty -d inner
cat $offered
