"""Any torch module as a layer graph: `torch.export` traces it to Core ATen, one table turns each op into graph ops."""
