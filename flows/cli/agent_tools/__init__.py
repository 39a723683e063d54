"""What `coordinator mcp` offers other agents by the Model Context Protocol."""
