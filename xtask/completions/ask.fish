# What fish offers for a line. Arguments: the folder of the script `completions.fish`, the line. Called by xtask/src/completions.rs.
source $argv[1]/completions.fish
# Each candidate comes with its description behind a tab.
complete -C $argv[2] | string replace --regex '\t.*' ''
# Where no candidate has one, nothing was replaced, which is no failure.
or true
