# What the document cannot say: two arguments must be the same, but for their case.
package omega.custom

twins if lower(input.args.v) == lower(input.args.w)
