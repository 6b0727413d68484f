"""What the stage degrade is made of: recipes, real photos, one image made again."""
